//! A connection that is counted as long as it is held.

use std::sync::Arc;

use super::destination::Destination;
use super::persistence::Template;
use super::service::VirtualService;

/// One connection sent to a destination. Holding it keeps the destination's count; dropping it gives it back.
#[derive(Debug)]
pub struct Connection {
    service: Arc<VirtualService>,
    destination: Arc<Destination>,
    template: Option<Arc<Template>>,
    active: bool,
}

impl Connection {
    pub(super) fn open(
        service: Arc<VirtualService>,
        destination: Arc<Destination>,
        template: Option<Arc<Template>>,
    ) -> Self {
        destination.opened();
        service.load_changed(&destination);
        if let Some(template) = &template {
            template.acquire();
        }
        Self { service, destination, template, active: true }
    }

    pub fn destination(&self) -> &Arc<Destination> {
        &self.destination
    }

    pub fn service(&self) -> &Arc<VirtualService> {
        &self.service
    }

    /// One side has finished: it weighs 1/256 of an active connection from here on, as in IPVS's FIN states.
    pub fn closing(&mut self) {
        if std::mem::replace(&mut self.active, false) {
            self.destination.closing();
            self.service.load_changed(&self.destination);
        }
    }

    /// End it at `now`: a persistent client's time-out runs from here.
    pub fn close(self, now: u64) {
        if let (Some(template), Some(timeout)) = (&self.template, self.service.persistence_timeout()) {
            template.extend(now.saturating_add(timeout));
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(template) = self.template.take() {
            template.release();
        }
        self.destination.closed(self.active);
        self.service.load_changed(&self.destination);
    }
}
