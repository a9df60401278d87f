use std::collections::HashMap;
use std::os::fd::{BorrowedFd, RawFd};

use kubecore_dataplane::way_out::{WayOut as CoreWayOut, WayOutOptions};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::clock::Clock;
use crate::dataplane::{os_error, relays, runtime, seconds};

/// Carries on outside what leads out of a network namespace.
#[pyclass(frozen, module = "kubecore._native")]
struct WayOut {
    core: CoreWayOut,
}

#[pymethods]
impl WayOut {
    #[new]
    #[pyo3(signature = (namespace, clock = None, *, most_connections = 4096, most_flows = 4096, most_of_one = None,
                        connect_timeout = 20.0, udp_timeout = 30.0, udp_stream_timeout = 120.0))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        namespace: RawFd,
        clock: Option<&Clock>,
        most_connections: usize,
        most_flows: usize,
        most_of_one: Option<usize>,
        connect_timeout: f64,
        udp_timeout: f64,
        udp_stream_timeout: f64,
    ) -> PyResult<Self> {
        if namespace < 0 {
            return Err(PyValueError::new_err(format!("{namespace} is no descriptor")));
        }
        // SAFETY: the caller holds it open for the time of the call.
        let namespace = unsafe { BorrowedFd::borrow_raw(namespace) };
        let mut options = WayOutOptions {
            connect_timeout: seconds(connect_timeout)?,
            udp_timeout: seconds(udp_timeout)?,
            udp_stream_timeout: seconds(udp_stream_timeout)?,
            ..WayOutOptions::with_most(most_connections, most_flows)
        };
        if let Some(most) = most_of_one {
            (options.most_connections_of_one, options.most_flows_of_one) = (most, most);
        }
        let clock = clock.map(|clock| clock.core.clone()).unwrap_or_default();
        let (runtime, relays) = (runtime()?.handle(), relays()?);
        let core =
            py.detach(|| CoreWayOut::open(runtime, relays, &clock, options, namespace)).map_err(os_error)?;
        Ok(Self { core })
    }

    #[getter]
    fn ports(&self) -> (u16, u16) {
        self.core.ports()
    }

    fn statistics(&self) -> HashMap<&'static str, u64> {
        let counts = self.core.statistics();
        HashMap::from([
            ("connections", counts.connections),
            ("refused", counts.refused),
            ("flows", counts.flows),
            ("dropped", counts.dropped),
        ])
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.core.close());
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<WayOut>()
}
