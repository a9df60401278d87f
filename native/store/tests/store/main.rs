//! The store as its users see it.

mod asking;
mod encryption;
mod model;
mod writer;
