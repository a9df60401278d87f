//! Requests at which our own code fails: how they end is the stage `Panic`.
//!
//! A panic drops what it comes by, the request's draft among it. By then whoever catches it, and knows what it was, has
//! nothing of the request in hand: what is dropped leaves the trail on the thread. Source: apiserver
//! `pkg/endpoints/filters/audit.go`.

use std::any::Any;
use std::cell::Cell;
use std::sync::Arc;
use std::thread;

use super::event::ResponseStatus;
use super::{Draft, Stage, Trail};
use crate::exchange::Exchange;

thread_local! {
    static STRUCK: Cell<Option<Arc<Trail>>> = const { Cell::new(None) };
}

/// Leaves the trail of a request that others have in hand, too, if a panic comes by.
pub(crate) struct Struck(pub Arc<Exchange>);

impl Drop for Struck {
    fn drop(&mut self) {
        if thread::panicking()
            && let Some(draft) = &self.0.audit
        {
            draft.leave_trail();
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if thread::panicking() {
            self.leave_trail();
        }
    }
}

impl Draft {
    fn leave_trail(&self) {
        STRUCK.set(self.trail().cloned());
    }
}

impl Trail {
    /// Whatever comes now, that is what is told of the request's end.
    pub fn panicked(&self, why: &str) {
        let mut findings = self.findings.lock();
        findings.has_panicked = true;
        findings.response_object = None;
        findings.status = Some(Box::new(ResponseStatus::panicked(why)));
    }
}

/// To be called by whoever has caught it, on the thread where it came.
pub(crate) fn tell_panic(payload: &(dyn Any + Send)) {
    let Some(trail) = STRUCK.take() else { return };
    let text = payload.downcast_ref::<String>().map(String::as_str);
    trail.panicked(text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("unknown"));
    trail.tell(Stage::ResponseComplete);
}
