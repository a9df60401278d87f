//! The watch cache: every object of every resource as JSON bytes, in order, with the latest events.
//!
//! Writers publish in order of revision; readers never wait for each other, and for a writer only as long as it takes
//! to put prepared objects in place. Per resource:
//!
//! - `snapshot`: objects in shared runs; a list holds a snapshot and hands over whole runs of joined bytes;
//! - `history`: a ring of events with frames made once; watchers are cursors over it that pull;
//! - `index`: by label and field, built on demand; `waiters`: sleeping watchers by what they wait for;
//! - `list` and `watch`: Kubernetes' semantics of resourceVersion, pages, selectors, bookmarks and expiry;
//! - `options`: query parameters; `transcode`: renderings other than the stored JSON.

mod arena;
mod cache;
mod filter;
mod history;
mod index;
mod list;
mod object;
mod options;
mod pruned;
mod resource;
mod scan;
mod snapshot;
mod token;
mod transcode;
mod waiters;
mod watch;

#[cfg(test)]
mod tests;

pub use cache::{Change, Observer, PublishError, WatchCache};
pub use filter::{Field, FieldTerm, Filter};
pub use history::{Bounds, Event, Previous};
pub use list::{At, List, ListQuery, Page};
pub use object::Object;
pub use options::{Match, ReadOptions, check_get};
pub use pruned::Pruned;
pub use resource::{Reads, ResourceCache, ResourceId, ResourceInfo};
pub use scan::{Facts, Labels, ScanError, Scanner, SelectableField};
pub use snapshot::Snapshot;
pub use token::ContinueToken;
pub(crate) use transcode::json_bookmark;
pub use transcode::{
    EventType, FOREIGN, FormId, Json, ListMeta, PartialMetadata, STORED, Transcoder, json_frame,
};
pub use watch::{Batch, Delivery, Start, WatchQuery, Watcher};
