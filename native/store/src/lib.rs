//! The default store: one LMDB file and one thread that writes and reads it, so that no reader is open while the map
//! grows.

mod compaction;
pub mod encryption;
mod file;
mod layout;
mod operation;
mod reading;
mod recent;
mod resealing;
mod store;
mod writer;
mod writing;

pub use file::OpenError;
pub use operation::{Answer, Entry, Event, Kind, Page, Read, Refusal, Ticket, Work, Write};
pub use store::Store;
pub use writer::{Host, Level, Limits};
