//! Custom resources in a served version whose schema is not that of the stored one.

use std::sync::Arc;

use bytes::Bytes;

use super::ResourceInfo;
use super::object::Object;
use super::transcode::{EventType, FormId, Json, ListMeta, Transcoder};
use crate::schema::custom::CustomSchema;
use crate::status::Status;

/// JSON in one served version, without what its schema does not know.
pub struct Pruned {
    json: Json,
    schema: Arc<CustomSchema>,
}

impl Pruned {
    pub fn new(json: Json, schema: Arc<CustomSchema>) -> Self {
        Self { json, schema }
    }
}

impl Transcoder for Pruned {
    fn id(&self) -> FormId {
        self.json.id()
    }

    fn object(&self, info: &ResourceInfo, object: &Object) -> Result<Bytes, Status> {
        let renamed = self.json.object(info, object)?;
        self.schema.prune(&renamed).map(Bytes::from).map_err(|rejection| Status::internal(&rejection.message))
    }

    fn append_item(&self, info: &ResourceInfo, object: &Object, out: &mut Vec<u8>) -> Result<(), Status> {
        out.push(b',');
        out.extend_from_slice(&self.object(info, object)?);
        Ok(())
    }

    fn separator_length(&self) -> usize {
        self.json.separator_length()
    }

    fn list_frame(&self, info: &ResourceInfo, meta: &ListMeta, items_length: usize) -> (Bytes, Bytes) {
        self.json.list_frame(info, meta, items_length)
    }

    fn frame(&self, event: EventType, object: &[u8]) -> Bytes {
        self.json.frame(event, object)
    }

    fn bookmark(&self, info: &ResourceInfo, revision: u64, initial_events_end: bool) -> Bytes {
        self.json.bookmark(info, revision, initial_events_end)
    }
}
