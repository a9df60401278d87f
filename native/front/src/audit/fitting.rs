//! Events that are too large lose their objects, and are lost where that is not enough.
//!
//! Source: apiserver `plugin/pkg/audit/truncate`.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value};

use super::events::Events;
use super::sink::Sink;
use crate::complaint::complain;

/// A sink that takes no event of more bytes than `most`.
pub struct Fitting<S> {
    sink: S,
    most: usize,
    lost: AtomicU64,
}

impl<S: Sink> Fitting<S> {
    pub fn new(sink: S, most: usize) -> Self {
        Self { sink, most, lost: AtomicU64::new(0) }
    }
}

impl<S: Sink> Sink for Fitting<S> {
    fn take(&self, events: &Events) -> bool {
        if events.text().len() <= self.most || events.iter().all(|event| event.len() <= self.most) {
            return self.sink.take(events);
        }
        let mut fitting: Events = events.iter().filter_map(|event| fitted(event, self.most)).collect();
        fitting.at = events.at;
        let lost = (events.len() - fitting.len()) as u64;
        if lost > 0 && self.lost.fetch_add(lost, Ordering::Relaxed) == 0 {
            complain(format_args!("an audit event is too large even after truncating"));
        }
        self.sink.take(&fitting)
    }

    fn settle(&self) {
        self.sink.settle();
    }

    fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed) + self.sink.lost()
    }

    fn name(&self) -> &'static str {
        self.sink.name()
    }
}

fn fitted(event: &[u8], most: usize) -> Option<Cow<'_, [u8]>> {
    if event.len() <= most {
        return Some(event.into());
    }
    let mut told: Map<String, Value> = serde_json::from_slice(event).ok()?;
    if !matches!(told.get("level")?.as_str()?, "Request" | "RequestResponse") {
        return None;
    }
    for object in ["requestObject", "responseObject"] {
        told.shift_remove(object);
    }
    if let Value::Object(annotations) = told.entry("annotations").or_insert_with(|| Map::new().into()) {
        annotations.insert("audit.k8s.io/truncated".to_owned(), "true".into());
    }
    let mut smaller = serde_json::to_vec(&told).ok()?;
    smaller.push(b'\n');
    (smaller.len() <= most).then(|| smaller.into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Taken(Arc<Mutex<Vec<String>>>);

    impl Sink for Taken {
        fn take(&self, events: &Events) -> bool {
            self.0.lock().extend(events.iter().map(|event| String::from_utf8(event.to_vec()).unwrap()));
            true
        }

        fn lost(&self) -> u64 {
            0
        }

        fn name(&self) -> &'static str {
            "log"
        }
    }

    fn event(level: &str, object: usize, uri: usize) -> String {
        let (object, uri) = ("x".repeat(object), "u".repeat(uri));
        format!(
            "{{\"level\":\"{level}\",\"requestURI\":\"{uri}\",\"requestObject\":\"{object}\",\"annotations\":{{\"a\":\"b\"}}}}\n"
        )
    }

    #[test]
    fn an_event_that_is_too_large_loses_its_objects_and_says_so() {
        let taken = Taken::default();
        let fitting = Fitting::new(taken.clone(), 150);
        fitting.take(&[event("Request", 3, 3), event("RequestResponse", 200, 3)].into_iter().collect());
        let smaller = "{\"level\":\"RequestResponse\",\"requestURI\":\"uuu\",\"annotations\":{\"a\":\"b\",\"audit.k8s.io/truncated\":\"true\"}}\n";
        let whole = event("Request", 3, 3);
        assert_eq!(*taken.0.lock(), [whole.as_str(), smaller]);
        assert_eq!(fitting.lost(), 0);
    }

    #[test]
    fn an_event_that_is_too_large_without_them_is_lost() {
        let taken = Taken::default();
        let fitting = Fitting::new(taken.clone(), 150);
        let events = [event("Request", 3, 200), event("Metadata", 200, 3), event("Metadata", 3, 3)];
        fitting.take(&events.into_iter().collect());
        assert_eq!(taken.0.lock().len(), 1);
        assert_eq!(fitting.lost(), 2);
    }
}
