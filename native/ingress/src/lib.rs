//! Ingress: an HTTP reverse proxy that routes by host and path to balanced destinations.
//!
//! A plain request of HTTP/1.1 goes: `server` (accept, TLS, protocol) → `relay` (all the rest). Any other one: `server` →
//! `proxy` (judged, routed by `table`) → `forward` (a destination picked by `kubecore_core::balance`, a connection from
//! `pool`, retries) or `switch` (WebSockets) → `body` (streamed back) → `record` (counted and logged). Routes,
//! certificates and destinations are swapped under it; what is under way ends as it began.

mod access_log;
mod answers;
mod backend;
mod body;
mod certificates;
mod channel;
mod client;
mod forward;
mod head_guard;
mod headers;
mod ingress;
mod options;
mod path;
mod pool;
mod proxy;
mod record;
mod relay;
mod server;
mod shared;
mod switch;
pub mod table;
mod transport;

pub use backend::Protocol;
pub use certificates::Certificate;
pub use ingress::{BackendSpec, HostSpec, Ingress, RouteSpec, Statistics};
pub use kubecore_tls::TlsError;
pub use options::Options;
pub use relay::as_sent;
pub use transport::TlsSpec;
