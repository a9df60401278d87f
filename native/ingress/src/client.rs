//! One client connection: what all its requests share.

use std::net::SocketAddr;
use std::sync::Arc;

use kubecore_front::lifespan::{self, Activity};

use crate::head_guard::SharedHead;
use crate::headers::Forwarded;

/// A request under way.
pub type Busy = lifespan::Busy<Client>;

pub struct Client {
    pub remote: SocketAddr,
    /// Where it reached us.
    pub local: SocketAddr,
    pub secure: bool,
    pub forwarded: Forwarded,
    /// Of HTTP/1.1.
    pub head: Option<SharedHead>,
    pub activity: Activity,
}

impl Client {
    pub fn new(remote: SocketAddr, local: SocketAddr, secure: bool, head: Option<SharedHead>) -> Arc<Self> {
        Arc::new(Self {
            remote,
            local,
            secure,
            forwarded: Forwarded::new(remote, local.port(), secure),
            head,
            activity: Activity::default(),
        })
    }
}

impl AsRef<Activity> for Client {
    fn as_ref(&self) -> &Activity {
        &self.activity
    }
}
