use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use kubecore_core::balance::{
    Balancer as CoreBalancer, DestinationSpec, Flow, HashOptions, MAX_WEIGHT, Persistence, Protocol, Rates,
    ServiceKey, ServiceOptions, Totals, VirtualService,
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

/// `ipvsadm` prints services by firewall mark under this name of a protocol.
const BY_MARK: &str = "FWM";

pub fn key(protocol: &str, address: &str, port: u32) -> PyResult<ServiceKey> {
    if protocol == BY_MARK {
        return Ok(ServiceKey::Mark(port));
    }
    let protocol: Protocol = protocol.parse().map_err(PyValueError::new_err)?;
    Ok(ServiceKey::new(protocol, SocketAddr::new(ip(address)?, port_number(port)?)))
}

pub fn port_number(port: u32) -> PyResult<u16> {
    u16::try_from(port).map_err(|_| PyValueError::new_err(format!("{port} is not a port number")))
}

impl Balancer {
    pub fn find(&self, protocol: &str, address: &str, port: u32) -> PyResult<Arc<VirtualService>> {
        let key = key(protocol, address, port)?;
        self.core.get(&key).ok_or_else(|| PyKeyError::new_err(format!("no virtual service {key}")))
    }
}

/// (address, port, weight), or with the upper and the lower threshold too.
#[derive(FromPyObject)]
pub enum Wanted {
    Plain(String, u16, u32),
    Limited(String, u16, u32, u32, u32),
}

pub fn specs(destinations: Vec<Wanted>) -> PyResult<Vec<DestinationSpec>> {
    let spec = |wanted: Wanted| {
        let (address, port, weight, upper_threshold, lower_threshold) = match wanted {
            Wanted::Plain(address, port, weight) => (address, port, weight, 0, 0),
            Wanted::Limited(address, port, weight, upper, lower) => (address, port, weight, upper, lower),
        };
        if weight > MAX_WEIGHT {
            return Err(PyValueError::new_err(format!("weight {weight} is above {MAX_WEIGHT}")));
        }
        let address = SocketAddr::new(ip(&address)?, port);
        Ok(DestinationSpec { address, weight, upper_threshold, lower_threshold })
    };
    destinations.into_iter().map(spec).collect()
}

/// `prefix` is how many leading bits of a client's address count, of either family; None: all.
pub fn persistence(
    seconds: Option<f64>,
    prefix: Option<u8>,
    expire_quiescent: bool,
) -> PyResult<Option<Persistence>> {
    let Some(seconds) = seconds else { return Ok(None) };
    if seconds <= 0.0 || !seconds.is_finite() {
        return Err(PyValueError::new_err(format!("persistence of {seconds} s: must be positive")));
    }
    let mut persistence = Persistence { expire_quiescent, ..Persistence::new(milliseconds(seconds)) };
    if let Some(bits) = prefix {
        (persistence.prefix_v4, persistence.prefix_v6) = (bits.min(32), bits.min(128));
    }
    Ok(Some(persistence))
}

pub fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1000.0) as u64
}

#[pymethods]
impl Balancer {
    #[new]
    fn new() -> Self {
        Self { core: Arc::new(CoreBalancer::new()) }
    }

    #[pyo3(signature = (protocol, address, port, *, scheduler = "rr", persistence_seconds = None,
                        persistence_prefix = None, expire_quiescent = false, hash_port = false,
                        hash_fallback = false))]
    #[allow(clippy::too_many_arguments)]
    fn put_service(
        &self,
        py: Python<'_>,
        protocol: &str,
        address: &str,
        port: u32,
        scheduler: &str,
        persistence_seconds: Option<f64>,
        persistence_prefix: Option<u8>,
        expire_quiescent: bool,
        hash_port: bool,
        hash_fallback: bool,
    ) -> PyResult<()> {
        let key = key(protocol, address, port)?;
        let options = ServiceOptions {
            scheduler: scheduler.parse().map_err(PyValueError::new_err)?,
            persistence: persistence(persistence_seconds, persistence_prefix, expire_quiescent)?,
            hash: HashOptions { port: hash_port, fallback: hash_fallback },
        };
        py.detach(|| self.core.put(key, options));
        Ok(())
    }

    fn remove_service(&self, py: Python<'_>, protocol: &str, address: &str, port: u32) -> PyResult<bool> {
        let key = key(protocol, address, port)?;
        Ok(py.detach(|| self.core.remove(&key)).is_some())
    }

    fn set_destinations(
        &self,
        py: Python<'_>,
        protocol: &str,
        address: &str,
        port: u32,
        destinations: Vec<Wanted>,
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
        port: u32,
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
        port: u32,
        client: &str,
        client_port: u16,
        now: f64,
    ) -> PyResult<Option<Connection>> {
        let service = self.find(protocol, address, port)?;
        let flow = Flow::new(SocketAddr::new(ip(client)?, client_port), ip(address)?);
        let connection = service.connect(&flow, milliseconds(now));
        Ok(connection.map(|core| Connection { destination: core.destination().address(), core: Some(core) }))
    }

    /// Have the rates reckoned anew; to be called every two seconds.
    fn estimate(&self, py: Python<'_>, now: f64) {
        py.detach(|| self.core.services().iter().for_each(|service| service.estimate(milliseconds(now))));
    }

    #[pyo3(signature = (now = None))]
    fn services<'py>(&self, py: Python<'py>, now: Option<f64>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let services = self.core.services();
        if let Some(now) = now.map(milliseconds) {
            services.iter().for_each(|service| service.age(now));
        }
        services.iter().map(|service| describe(py, service)).collect()
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
    described.set_item("scheduler", options.scheduler.as_str())?;
    described
        .set_item("persistence_seconds", options.persistence.map(|found| found.timeout as f64 / 1000.0))?;
    described.set_item("refused", service.refused())?;
    describe_traffic(&described, service.totals(), service.rates())?;
    let rows = service.destinations().into_iter().chain(service.leaving()).map(|found| {
        let row = PyDict::new(py);
        row.set_item("address", found.address().ip().to_string())?;
        row.set_item("port", found.address().port())?;
        row.set_item("weight", if found.removed() { 0 } else { found.weight() })?;
        row.set_item("active", found.active())?;
        row.set_item("inactive", found.inactive())?;
        row.set_item("overloaded", found.overloaded())?;
        describe_traffic(&row, found.totals(), found.rates())?;
        Ok(row)
    });
    described.set_item("destinations", rows.collect::<PyResult<Vec<_>>>()?)?;
    Ok(described)
}

fn describe_traffic(described: &Bound<'_, PyDict>, totals: Totals, rates: Rates) -> PyResult<()> {
    described.set_item("connections", totals.connections)?;
    described.set_item("packets_in", totals.packets_in)?;
    described.set_item("packets_out", totals.packets_out)?;
    described.set_item("bytes_in", totals.bytes_in)?;
    described.set_item("bytes_out", totals.bytes_out)?;
    let per_second = PyDict::new(described.py());
    per_second.set_item("connections", rates.connections)?;
    per_second.set_item("packets_in", rates.packets_in)?;
    per_second.set_item("packets_out", rates.packets_out)?;
    per_second.set_item("bytes_in", rates.bytes_in)?;
    per_second.set_item("bytes_out", rates.bytes_out)?;
    described.set_item("per_second", per_second)
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

    fn closing(&self) {
        if let Some(core) = &self.core {
            core.closing();
        }
    }

    #[pyo3(signature = (*, now = 0.0))]
    fn close(&mut self, now: f64) {
        if let Some(core) = self.core.take() {
            core.close(milliseconds(now));
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
