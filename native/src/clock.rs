use std::time::Duration;

use kubecore_core::clock::Clock as CoreClock;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// The clock the Rust side reads: the system's, or a virtual one that kubecore.clock.VirtualClock advances.
#[pyclass(frozen, module = "kubecore._native")]
pub struct Clock {
    pub core: CoreClock,
}

#[pymethods]
impl Clock {
    #[new]
    fn new() -> Self {
        Self { core: CoreClock::system() }
    }

    /// A clock that stands at `unix_seconds` until it is advanced.
    #[staticmethod]
    #[pyo3(name = "virtual")]
    fn starting_at(unix_seconds: f64) -> PyResult<Self> {
        Ok(Self { core: CoreClock::starting_at(duration(unix_seconds)?) })
    }

    fn advance(&self, seconds: f64) -> PyResult<()> {
        if self.core.advance(duration(seconds)?) {
            return Ok(());
        }
        Err(PyValueError::new_err("the system's clock cannot be advanced"))
    }

    fn unix_seconds(&self) -> f64 {
        self.core.unix().as_secs_f64()
    }

    fn monotonic(&self) -> f64 {
        self.core.monotonic().as_secs_f64()
    }
}

fn duration(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|error| PyValueError::new_err(error.to_string()))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Clock>()
}
