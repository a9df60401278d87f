//! The store as its users see it.

mod asking;
mod model;
mod writer;
