//! exec, attach and port-forward as the kubelet serves them.
//!
//! A client's upgraded connection comes in, descriptors of a process or sockets of a pod are at the other end; bytes
//! flow between them here, without Python. Two transports: WebSocket (`v5.channel.k8s.io` and its forerunners), where
//! the first byte of a message names its channel, and SPDY/3.1, where every channel is a stream of its own.
//!
//! Back-pressure is the connection's: nothing is read while what was read before is not written. Neither Kubernetes'
//! clients nor its servers use SPDY's flow control windows, so neither does this.

pub mod descriptor;
pub mod output;
pub mod pod_network;
pub mod port_forward;
pub mod port_forward_channels;
pub mod session;
pub mod spdy;
pub mod spdy_session;
pub mod terminal;
pub mod tunnel;
pub mod websocket_session;

pub use pod_network::PodNetwork;
pub use session::{Outcome, Process, Session, Transport, Wanted};
