//! HTTP/1.1 connections that we open to other servers: dialled, secured, kept for the next request, and why one has
//! failed, in the words of Go's clients.

mod client;
mod peer;
mod pool;
mod problem;

pub use crate::client::{Answer, Client, Origin};
pub use crate::peer::{Peer, connect};
pub use crate::pool::Pool;
pub use crate::problem::{Problem, RESET, Stage};
