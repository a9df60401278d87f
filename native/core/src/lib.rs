//! The pure core of kubecore. Nothing here knows Python, sockets or files.

pub mod authn;
pub mod balance;
pub mod clock;
pub mod merge;
pub mod protobuf;
pub mod rbac;
pub mod schema;
pub mod selector;
pub mod status;
pub mod watch_cache;
