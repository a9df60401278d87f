//! The HTTP listener: reads are answered here, everything else is handed over in batches.
//!
//! A request goes: `server` (accept, TLS) → `connection` (protocol, `lifespan`) → `service` (the chain: limits, request
//! info, authentication, flow control, authorization) → `builtin`, `read` (the watch cache) or `handoff` (Python).
//! One that gRPC brings goes `tunnel` (TLS) → grpcio → `carried` → `service`.

pub mod accept;
mod answering;
pub mod audit;
pub mod authn;
pub mod authz;
mod body;
mod builtin;
pub mod cached;
pub mod carried;
mod complaint;
pub mod connection;
pub mod delegation;
pub mod exchange;
pub mod flow;
pub mod forward;
pub mod handoff;
pub mod hands;
pub mod headers;
mod heads;
pub mod health;
mod hosts;
pub mod inflight;
pub mod io;
pub mod judged;
pub mod lifespan;
mod long_uris;
mod metrics;
mod outflow;
mod passes;
pub mod plain_http;
mod query;
mod read;
mod rebinding;
mod recent;
mod rendering;
mod request_body;
pub mod request_info;
pub mod routes;
mod runtime;
mod seldom;
pub mod server;
mod service;
mod status;
pub mod stream;
pub mod tracing;
pub mod tunnel;
mod turns;
mod unread;
pub mod upgrade;
mod watch_body;

pub use http;
pub use runtime::runtime;
pub use rustls;
