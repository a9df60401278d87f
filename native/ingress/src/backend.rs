//! One port of a Service, as routes lead to it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use kubecore_core::balance::{DestinationSpec, ServiceOptions, VirtualService};

use crate::transport::{self, Peer, Tls, Transport};

/// What is spoken to a backend's destinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1; also what WebSockets begin with.
    Http1,
    /// Without TLS by prior knowledge.
    Http2,
}

/// How a backend's destinations are dealt with.
#[derive(Clone, Debug)]
pub struct Terms {
    pub protocol: Protocol,
    pub tls: Option<Arc<Tls>>,
    /// For one attempt to reach a destination, before another one is tried.
    pub connect_timeout: Duration,
    /// From the end of a request to the head of its answer, and between any two pieces of the answer.
    pub read_timeout: Duration,
}

impl Terms {
    pub fn peer(&self, address: SocketAddr) -> Peer {
        Peer::new(address, self.tls.as_deref())
    }

    pub async fn connect(&self, address: SocketAddr) -> io::Result<Transport> {
        transport::connect(address, self.tls.as_deref(), self.connect_timeout).await
    }
}

/// The destinations of a Service's port and what has been sent there. Lives as long as a route or a request holds it.
#[derive(Debug)]
pub struct Backend {
    /// `namespace/service:port`
    pub name: Box<str>,
    pub service: Arc<VirtualService>,
    terms: ArcSwap<Terms>,
    /// By the hundreds of their status.
    answers: [AtomicU64; 6],
    milliseconds: AtomicU64,
}

impl Backend {
    pub fn new(name: &str, service: VirtualService, terms: Terms) -> Self {
        Self {
            name: name.into(),
            service: Arc::new(service),
            terms: ArcSwap::from_pointee(terms),
            answers: Default::default(),
            milliseconds: AtomicU64::new(0),
        }
    }

    /// Requests under way go on where they are.
    pub fn configure(&self, terms: Terms, options: ServiceOptions, destinations: &[DestinationSpec]) {
        self.terms.store(Arc::new(terms));
        self.service.reconfigure(options);
        self.service.set_destinations(destinations);
    }

    pub fn terms(&self) -> Arc<Terms> {
        self.terms.load_full()
    }

    pub fn count(&self, status: u16, milliseconds: u64) {
        self.answers[usize::from(status / 100).min(5)].fetch_add(1, Relaxed);
        self.milliseconds.fetch_add(milliseconds, Relaxed);
    }

    /// Answers by the hundreds of their status, and how long all of them took together.
    pub fn counts(&self) -> ([u64; 6], u64) {
        (self.answers.each_ref().map(|count| count.load(Relaxed)), self.milliseconds.load(Relaxed))
    }
}
