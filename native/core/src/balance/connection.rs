//! A connection that is counted as long as it is held.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

use super::destination::Destination;
use super::flow::{Protocol, ServiceKey};
use super::persistence::Template;
use super::service::VirtualService;

/// How a connection counts; once it is over, not at all.
const INACTIVE: u8 = 0;
const ACTIVE: u8 = 1;
const OVER: u8 = 2;

/// One connection sent to a destination. Holding it keeps the destination's count; dropping it gives it back.
#[derive(Debug)]
pub struct Connection {
    service: Arc<VirtualService>,
    destination: Arc<Destination>,
    template: Option<Arc<Template>>,
    /// One word: whoever ends the connection gives back exactly what the last change of it has taken, and nothing is
    /// taken behind the end.
    counted: AtomicU8,
}

impl Connection {
    pub(super) fn open(
        service: Arc<VirtualService>,
        destination: Arc<Destination>,
        template: Option<Arc<Template>>,
    ) -> Self {
        // UDP has no end that could be seen: IPVS counts its connections as inactive ones from the start.
        let active = !matches!(service.key(), ServiceKey::Address { protocol: Protocol::Udp, .. });
        destination.opened(active);
        service.load_changed(&destination);
        if let Some(template) = &template {
            template.acquire();
        }
        Self {
            service,
            destination,
            template,
            counted: AtomicU8::new(if active { ACTIVE } else { INACTIVE }),
        }
    }

    pub fn destination(&self) -> &Arc<Destination> {
        &self.destination
    }

    pub fn service(&self) -> &Arc<VirtualService> {
        &self.service
    }

    /// Where a connection to this port of the service is carried. Those by a firewall mark that are persistent keep
    /// their port, since one client's connections to several ports go together (`ip_vs_sched_persist`).
    pub(super) fn address_for(&self, port: u16) -> SocketAddr {
        let mut address = self.destination.address_for(port);
        if self.template.is_some() && matches!(self.service.key(), ServiceKey::Mark(_)) {
            address.set_port(port);
        }
        address
    }

    /// Bytes have passed, of a stream whose packets nobody has counted.
    pub fn count_bytes(&self, from_client: u64, to_client: u64) {
        if from_client > 0 {
            self.service.count_in(&self.destination, 0, from_client);
        }
        if to_client > 0 {
            self.service.count_out(&self.destination, 0, to_client);
        }
    }

    /// One side has finished: it weighs 1/256 of an active connection from here on, as in IPVS's FIN states.
    pub fn closing(&self) {
        self.set_active(false);
    }

    /// Whether it counts as active from here on; may be told by several threads, and when it is over.
    pub(super) fn set_active(&self, active: bool) {
        let (before, after) = if active { (INACTIVE, ACTIVE) } else { (ACTIVE, INACTIVE) };
        if self.counted.compare_exchange(before, after, AcqRel, Acquire).is_ok() {
            self.destination.set_active(active);
            self.service.load_changed(&self.destination);
        }
    }

    /// End it at `now`.
    pub fn close(self, now: u64) {
        self.end(now);
    }

    /// Give the counts back; dropping it later changes nothing more.
    pub(super) fn end(&self, now: u64) {
        if let Some(template) = &self.template {
            template.outlive(now);
        }
        self.release();
    }

    /// End it at `now`, but have it count as inactive until `over`.
    pub(super) fn linger(&self, now: u64, over: u64) {
        if let Some(template) = &self.template {
            template.outlive(now);
        }
        if let Some(was_active) = self.finish() {
            self.service.linger(&self.destination, was_active, over);
        }
    }

    pub(super) fn release(&self) {
        if let Some(was_active) = self.finish() {
            self.destination.closed(was_active);
            self.service.load_changed(&self.destination);
        }
    }

    /// Whether it was active; None: it was over before.
    fn finish(&self) -> Option<bool> {
        let counted = self.counted.swap(OVER, AcqRel);
        if counted == OVER {
            return None;
        }
        if let Some(template) = &self.template {
            template.release();
        }
        Some(counted == ACTIVE)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.release();
    }
}
