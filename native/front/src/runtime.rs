//! The one tokio runtime of the process, shared by the listener and the data plane.

use std::io;
use std::sync::OnceLock;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::audit::before_parking;

/// On a single core a second worker only brings context switches.
const MOST_WORKERS: usize = 2;

static RUNTIME: OnceLock<Runtime> = OnceLock::new();

/// A handle of the runtime, which is made on first use.
pub fn runtime() -> io::Result<Handle> {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = MAKING.lock();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime.handle().clone());
    }
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let made = Builder::new_multi_thread()
        .worker_threads(cores.min(MOST_WORKERS))
        .thread_name("kubecore-front")
        .enable_all()
        .on_thread_park(before_parking)
        .build()?;
    Ok(RUNTIME.get_or_init(|| made).handle().clone())
}
