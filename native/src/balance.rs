use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use kubecore_core::balance::{
    Balancer as CoreBalancer, DestinationSpec, Flow, HashOptions, MAX_WEIGHT, Persistence, Protocol,
    ServiceKey, ServiceOptions, VirtualService,
};
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Virtual services and their destinations: IPVS in user space.
#[pyclass(frozen, module = "kubecore._native")]
pub struct Balancer {
    pub core: Arc<CoreBalancer>,
}

pub fn ip(address: &str) -> PyResult<IpAddr> {
    address.parse().map_err(|_| PyValueError::new_err(format!("{address:?} is not an IP address")))
}

pub fn key(protocol: &str, address: &str, port: u16) -> PyResult<ServiceKey> {
    let protocol: Protocol = protocol.parse().map_err(PyValueError::new_err)?;
    Ok(ServiceKey::new(protocol, SocketAddr::new(ip(address)?, port)))
}

impl Balancer {
    pub fn find(&self, protocol: &str, address: &str, port: u16) -> PyResult<Arc<VirtualService>> {
        let key = key(protocol, address, port)?;
        self.core.get(&key).ok_or_else(|| PyKeyError::new_err(format!("no virtual service {key}")))
    }
}

pub fn specs(destinations: Vec<(String, u16, u32)>) -> PyResult<Vec<DestinationSpec>> {
    let spec = |(address, port, weight): (String, u16, u32)| {
        if weight > MAX_WEIGHT {
            return Err(PyValueError::new_err(format!("weight {weight} is above {MAX_WEIGHT}")));
        }
        Ok(DestinationSpec::new(SocketAddr::new(ip(&address)?, port), weight))
    };
    destinations.into_iter().map(spec).collect()
}

pub fn persistence(seconds: Option<f64>) -> PyResult<Option<Persistence>> {
    match seconds {
        None => Ok(None),
        Some(seconds) if seconds > 0.0 && seconds.is_finite() => {
            Ok(Some(Persistence::new((seconds * 1000.0) as u64)))
        }
        Some(seconds) => Err(PyValueError::new_err(format!("persistence of {seconds} s: must be positive"))),
    }
}

#[pymethods]
impl Balancer {
    #[new]
    fn new() -> Self {
        Self { core: Arc::new(CoreBalancer::new()) }
    }

    #[pyo3(signature = (protocol, address, port, *, scheduler = "rr", persistence_seconds = None,
                        hash_port = false, hash_fallback = false))]
    #[allow(clippy::too_many_arguments)]
    fn put_service(
        &self,
        py: Python<'_>,
        protocol: &str,
        address: &str,
        port: u16,
        scheduler: &str,
        persistence_seconds: Option<f64>,
        hash_port: bool,
        hash_fallback: bool,
    ) -> PyResult<()> {
        let key = key(protocol, address, port)?;
        let options = ServiceOptions {
            scheduler: scheduler.parse().map_err(PyValueError::new_err)?,
            persistence: persistence(persistence_seconds)?,
            hash: HashOptions { port: hash_port, fallback: hash_fallback },
        };
        py.detach(|| self.core.put(key, options));
        Ok(())
    }

    fn remove_service(&self, py: Python<'_>, protocol: &str, address: &str, port: u16) -> PyResult<bool> {
        let key = key(protocol, address, port)?;
        Ok(py.detach(|| self.core.remove(&key)).is_some())
    }

    fn set_destinations(
        &self,
        py: Python<'_>,
        protocol: &str,
        address: &str,
        port: u16,
        destinations: Vec<(String, u16, u32)>,
    ) -> PyResult<(usize, usize, usize)> {
        let service = self.find(protocol, address, port)?;
        let specs = specs(destinations)?;
        let changes = py.detach(|| service.set_destinations(&specs));
        Ok((changes.added, changes.changed, changes.removed))
    }

    #[pyo3(signature = (protocol, address, port, client, client_port = 0))]
    fn pick(
        &self,
        protocol: &str,
        address: &str,
        port: u16,
        client: &str,
        client_port: u16,
    ) -> PyResult<Option<(String, u16)>> {
        let service = self.find(protocol, address, port)?;
        let flow = Flow::new(SocketAddr::new(ip(client)?, client_port), ip(address)?);
        Ok(service.pick(&flow, |found| (found.address().ip().to_string(), found.address().port())))
    }

    #[pyo3(signature = (protocol, address, port, client, client_port = 0, *, now = 0.0))]
    #[allow(clippy::too_many_arguments)]
    fn connect(
        &self,
        protocol: &str,
        address: &str,
        port: u16,
        client: &str,
        client_port: u16,
        now: f64,
    ) -> PyResult<Option<Connection>> {
        let service = self.find(protocol, address, port)?;
        let flow = Flow::new(SocketAddr::new(ip(client)?, client_port), ip(address)?);
        let connection = service.connect(&flow, (now * 1000.0) as u64);
        Ok(connection.map(|core| Connection { destination: core.destination().address(), core: Some(core) }))
    }

    fn services<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        self.core.services().iter().map(|service| describe(py, service)).collect()
    }

    fn __len__(&self) -> usize {
        self.core.len()
    }
}

fn describe<'py>(py: Python<'py>, service: &VirtualService) -> PyResult<Bound<'py, PyDict>> {
    let described = PyDict::new(py);
    match service.key() {
        ServiceKey::Address { protocol, address } => {
            described.set_item("protocol", protocol.as_str())?;
            described.set_item("address", address.ip().to_string())?;
            described.set_item("port", address.port())?;
        }
        ServiceKey::Mark(mark) => described.set_item("mark", mark)?,
    }
    let options = service.options();
    let (connections, refused) = service.counts();
    described.set_item("scheduler", options.scheduler.as_str())?;
    described
        .set_item("persistence_seconds", options.persistence.map(|found| found.timeout as f64 / 1000.0))?;
    described.set_item("connections", connections)?;
    described.set_item("refused", refused)?;
    let destinations = service.destinations();
    let rows = destinations.iter().map(|found| {
        let row = PyDict::new(py);
        let (bytes_in, bytes_out) = found.bytes();
        row.set_item("address", found.address().ip().to_string())?;
        row.set_item("port", found.address().port())?;
        row.set_item("weight", found.weight())?;
        row.set_item("active", found.active())?;
        row.set_item("inactive", found.inactive())?;
        row.set_item("connections", found.connections())?;
        row.set_item("bytes_in", bytes_in)?;
        row.set_item("bytes_out", bytes_out)?;
        Ok(row)
    });
    described.set_item("destinations", rows.collect::<PyResult<Vec<_>>>()?)?;
    Ok(described)
}

/// A counted connection; it ends with `close` or when it is garbage.
#[pyclass(module = "kubecore._native")]
pub struct Connection {
    destination: SocketAddr,
    core: Option<kubecore_core::balance::Connection>,
}

#[pymethods]
impl Connection {
    #[getter]
    fn address(&self) -> String {
        self.destination.ip().to_string()
    }

    #[getter]
    fn port(&self) -> u16 {
        self.destination.port()
    }

    fn closing(&mut self) {
        if let Some(core) = &mut self.core {
            core.closing();
        }
    }

    #[pyo3(signature = (*, now = 0.0))]
    fn close(&mut self, now: f64) {
        if let Some(core) = self.core.take() {
            core.close((now * 1000.0) as u64);
        }
    }
}

/// The names `put_service` takes as `scheduler`.
#[pyfunction]
fn schedulers() -> Vec<&'static str> {
    kubecore_core::balance::SchedulerKind::ALL.iter().map(|kind| kind.as_str()).collect()
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Balancer>()?;
    module.add_class::<Connection>()?;
    module.add_function(wrap_pyfunction!(schedulers, module)?)
}
