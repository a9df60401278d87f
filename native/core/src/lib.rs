//! The pure core of kubecore. Nothing here knows Python, sockets or files.

pub mod clock;
pub mod status;
