//! The read path: GET, LIST and WATCH from the watch cache.

use std::sync::Arc;

use http::Response;

use crate::body::Body;
use crate::exchange::Exchange;
use crate::server::Server;

impl Server {
    /// The answer to a read that the cache can give; None hands it to Python.
    pub(crate) fn read(self: &Arc<Self>, exchange: &Exchange) -> Option<Response<Body>> {
        let _route = self.routes.for_read(&exchange.info)?;
        None
    }
}
