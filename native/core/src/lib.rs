//! The pure core of kubecore. Nothing here knows Python, sockets or files.

pub mod authn;
pub mod balance;
mod cel;
pub mod clock;
pub mod edition;
pub mod go;
pub mod merge;
pub mod placement;
pub mod protobuf;
pub mod rbac;
mod re2;
pub mod schema;
pub mod selector;
pub mod status;
pub mod watch_cache;

pub use cel::{admission, identities};
