//! Lines are written before their thread goes to sleep: while connections are served, those of many requests at once.
//!
//! A worker of the runtime serves all that is readable, and then parks until more is. What is told of an answer need
//! not be on disk before the answer is sent (upstream tells of it afterwards, too), but soon.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// Has taken something that it is to write soon: when its thread waits, or not long after.
pub(super) trait Held: Send + Sync {
    fn write_soon(self: Arc<Self>);
}

thread_local! {
    /// This thread calls `before_parking`, as nothing but a worker of the runtime does.
    static PARKS: Cell<bool> = const { Cell::new(false) };
    static DUE: RefCell<Vec<Arc<dyn Held>>> = const { RefCell::new(Vec::new()) };
}

/// To be called by each worker whenever it is about to wait.
pub(crate) fn before_parking() {
    PARKS.set(true);
    while let Some(held) = DUE.with_borrow_mut(Vec::pop) {
        held.write_soon();
    }
}

/// This thread writes it before it waits. False where it never says that it does: nobody would write it then.
pub(super) fn write_before_parking<H: Held + 'static>(held: &Arc<H>) -> bool {
    if !PARKS.get() {
        return false;
    }
    let address = Arc::as_ptr(held).cast::<()>();
    DUE.with_borrow_mut(|due| {
        if !due.iter().any(|one| Arc::as_ptr(one).cast::<()>() == address) {
            due.push(held.clone());
        }
    });
    true
}
