//! One port of a Service, as routes lead to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use kubecore_core::balance::{DestinationSpec, ServiceOptions, VirtualService};

/// What is spoken to a backend's destinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Also what WebSockets begin with.
    Http1,
    /// HTTP/2 without TLS, by prior knowledge.
    H2c,
}

/// The destinations of a Service's port and what has been sent there. Lives as long as a route or a request holds it.
#[derive(Debug)]
pub struct Backend {
    /// `namespace/service:port`
    pub name: Box<str>,
    pub service: Arc<VirtualService>,
    h2c: AtomicBool,
    /// By the hundreds of their status.
    answers: [AtomicU64; 6],
    milliseconds: AtomicU64,
}

impl Backend {
    pub fn new(name: &str, service: VirtualService) -> Self {
        Self {
            name: name.into(),
            service: Arc::new(service),
            h2c: AtomicBool::new(false),
            answers: Default::default(),
            milliseconds: AtomicU64::new(0),
        }
    }

    /// Requests under way go on where they are.
    pub fn configure(&self, protocol: Protocol, options: ServiceOptions, destinations: &[DestinationSpec]) {
        self.h2c.store(protocol == Protocol::H2c, Relaxed);
        self.service.reconfigure(options);
        self.service.set_destinations(destinations);
    }

    pub fn protocol(&self) -> Protocol {
        if self.h2c.load(Relaxed) { Protocol::H2c } else { Protocol::Http1 }
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
