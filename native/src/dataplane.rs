use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kubecore_core::balance::ServiceKey;
use kubecore_dataplane::access::{Access, Clients, Led, Range};
use kubecore_dataplane::namespaces::Namespaces as CoreNamespaces;
use kubecore_dataplane::proxy_protocol::ProxyProtocol;
use kubecore_dataplane::relays::Relays;
use kubecore_dataplane::{Forwarder as CoreForwarder, ForwarderOptions};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use tokio::runtime::Runtime;

use crate::balance::{Balancer, ip, key};
use crate::clock::Clock;

const MOST_WORKERS: usize = 2;

/// The data plane's runtime, made when it is first needed. More workers than cores would only wake each other.
pub fn runtime() -> PyResult<&'static Runtime> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers())
        .thread_name("kubecore-data")
        .enable_all()
        .build()
        .map_err(os_error)?;
    Ok(RUNTIME.get_or_init(|| runtime))
}

/// As many threads carry what connections of TCP say.
pub fn relays() -> PyResult<&'static Arc<Relays>> {
    static RELAYS: OnceLock<Arc<Relays>> = OnceLock::new();
    if let Some(relays) = RELAYS.get() {
        return Ok(relays);
    }
    let relays = Relays::start(workers()).map_err(os_error)?;
    Ok(RELAYS.get_or_init(|| relays))
}

fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MOST_WORKERS)
}

/// An OSError with its number, so that Python makes PermissionError and the like of it.
pub fn os_error(error: io::Error) -> PyErr {
    match error.raw_os_error() {
        Some(number) => {
            let text = error.to_string();
            let message = text.split(" (os error").next().unwrap_or(&text).to_owned();
            PyOSError::new_err((number, message))
        }
        None if error.kind() == io::ErrorKind::InvalidInput => PyValueError::new_err(error.to_string()),
        None => PyOSError::new_err(error.to_string()),
    }
}

pub fn seconds(value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value).map_err(|error| PyValueError::new_err(error.to_string()))
}

type Address = (String, u16);

fn pair(address: SocketAddr) -> Address {
    (address.ip().to_string(), address.port())
}

fn version(number: u8) -> PyResult<ProxyProtocol> {
    match number {
        1 => Ok(ProxyProtocol::V1),
        2 => Ok(ProxyProtocol::V2),
        _ => Err(PyValueError::new_err(format!("PROXY protocol {number}: expected version 1 or 2"))),
    }
}

/// "all", "inside", or ranges.
#[derive(FromPyObject)]
enum Whose {
    Known(String),
    From(Vec<String>),
}

fn clients(whose: &Whose) -> PyResult<Clients> {
    match whose {
        Whose::Known(name) if name == "all" => Ok(Clients::Everybody),
        Whose::Known(name) if name == "inside" => Ok(Clients::Inside),
        Whose::Known(name) => Err(PyValueError::new_err(format!("{name:?} are no clients that are known"))),
        Whose::From(texts) => Ok(Clients::From(ranges(texts)?)),
    }
}

pub fn ranges(texts: &[String]) -> PyResult<Vec<Range>> {
    texts.iter().map(|text| text.parse().map_err(PyValueError::new_err)).collect()
}

/// Network namespaces of clients, by their addresses.
#[pyclass(frozen, module = "kubecore._native")]
pub struct Namespaces {
    core: Arc<CoreNamespaces>,
}

#[pymethods]
impl Namespaces {
    #[new]
    fn new(reached: Vec<String>) -> PyResult<Self> {
        Ok(Self { core: Arc::new(CoreNamespaces::new(ranges(&reached)?)) })
    }

    fn put(&self, address: &str, descriptor: RawFd) -> PyResult<()> {
        let client = ip(address)?;
        if descriptor < 0 {
            return Err(PyValueError::new_err(format!("{descriptor} is no descriptor")));
        }
        // SAFETY: the caller holds it open for the time of the call.
        let own = unsafe { BorrowedFd::borrow_raw(descriptor) }.try_clone_to_owned().map_err(os_error)?;
        self.core.put(client, own).map_err(os_error)
    }

    fn remove(&self, address: &str) -> PyResult<()> {
        self.core.remove(ip(address)?);
        Ok(())
    }
}

/// Listens on the addresses of a balancer's virtual services and carries connections to their destinations.
#[pyclass(frozen, module = "kubecore._native")]
pub struct Forwarder {
    core: CoreForwarder,
    balancer: Arc<kubecore_core::balance::Balancer>,
}

impl Forwarder {
    fn led(&self, (whose, targets, mark): (Whose, Vec<String>, Option<u32>)) -> PyResult<Led> {
        let named = |mark| {
            let key = ServiceKey::Mark(mark);
            self.balancer.get(&key).ok_or_else(|| PyValueError::new_err(format!("no virtual service {key}")))
        };
        Ok(Led {
            clients: clients(&whose)?,
            targets: targets.iter().map(|text| ip(text)).collect::<PyResult<_>>()?,
            service: mark.map(named).transpose()?,
        })
    }
}

#[pymethods]
impl Forwarder {
    #[new]
    #[pyo3(signature = (balancer, clock = None, *, connect_timeout = 2.0, attempts = 32, udp_timeout = 60.0,
                        one_listener = false, freebind = false, namespaces = None))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        balancer: &Balancer,
        clock: Option<&Clock>,
        connect_timeout: f64,
        attempts: usize,
        udp_timeout: f64,
        one_listener: bool,
        freebind: bool,
        namespaces: Option<&Namespaces>,
    ) -> PyResult<Self> {
        let options = ForwarderOptions {
            connect_timeout: seconds(connect_timeout)?,
            attempts: attempts.max(1),
            udp_timeout: seconds(udp_timeout)?,
            one_listener,
            freebind,
            ..ForwarderOptions::default()
        };
        let clock = clock.map(|clock| clock.core.clone()).unwrap_or_default();
        let namespaces = namespaces.map(|known| Arc::clone(&known.core)).unwrap_or_default();
        let (handle, balanced) = (runtime()?.handle().clone(), Arc::clone(&balancer.core));
        let relays = Arc::clone(relays()?);
        let core = CoreForwarder::new(handle, relays, clock, options, balanced, namespaces);
        Ok(Self { core, balancer: Arc::clone(&balancer.core) })
    }

    #[getter]
    fn listens_apart(&self) -> Option<String> {
        self.core.listens_apart().map(io::Error::to_string)
    }

    #[pyo3(signature = (protocol, address, port, *, bind_address = None, bind_port = None,
                        proxy_protocol = None))]
    #[allow(clippy::too_many_arguments)]
    fn listen(
        &self,
        py: Python<'_>,
        protocol: &str,
        address: &str,
        port: u16,
        bind_address: Option<&str>,
        bind_port: Option<u16>,
        proxy_protocol: Option<u8>,
    ) -> PyResult<Address> {
        let key = key(protocol, address, port.into())?;
        let service = self.balancer.get(&key);
        let service = service.ok_or_else(|| PyValueError::new_err(format!("no virtual service {key}")))?;
        let bind = SocketAddr::new(ip(bind_address.unwrap_or(address))?, bind_port.unwrap_or(port));
        let access = Access { proxy_protocol: proxy_protocol.map(version).transpose()?, ..Access::default() };
        let listen = || self.core.listen(&service, bind, access);
        py.detach(listen).map(pair).map_err(os_error)
    }

    #[pyo3(signature = (protocol, address, port, *, sources = vec![], silent = false, led = vec![], apart = false,
                        inside_ranges = vec![], transparent_ranges = vec![], proxy_protocol = None))]
    #[allow(clippy::too_many_arguments)]
    fn set_access(
        &self,
        py: Python<'_>,
        protocol: &str,
        address: &str,
        port: u16,
        sources: Vec<String>,
        silent: bool,
        led: Vec<(Whose, Vec<String>, Option<u32>)>,
        apart: bool,
        inside_ranges: Vec<String>,
        transparent_ranges: Vec<String>,
        proxy_protocol: Option<u8>,
    ) -> PyResult<()> {
        let key = key(protocol, address, port.into())?;
        let led = led.into_iter().map(|rule| self.led(rule)).collect::<PyResult<_>>()?;
        let access = Access {
            sources: ranges(&sources)?,
            silent,
            led,
            apart,
            inside_ranges: ranges(&inside_ranges)?,
            transparent_ranges: ranges(&transparent_ranges)?,
            proxy_protocol: proxy_protocol.map(version).transpose()?,
        };
        let known = py.detach(|| self.core.set_access(&key, access)).map_err(os_error)?;
        if known { Ok(()) } else { Err(PyValueError::new_err(format!("{key} is not listened for"))) }
    }

    fn close(&self, py: Python<'_>, protocol: &str, address: &str, port: u16) -> PyResult<bool> {
        let key = key(protocol, address, port.into())?;
        Ok(py.detach(|| self.core.close(&key)))
    }

    fn shutdown(&self, py: Python<'_>) {
        py.detach(|| self.core.shutdown());
    }

    fn listening(&self) -> Vec<(String, Address, Address)> {
        let row = |(key, bound): (ServiceKey, SocketAddr)| match key {
            ServiceKey::Address { protocol, address } => {
                Some((protocol.as_str().to_owned(), pair(address), pair(bound)))
            }
            ServiceKey::Mark(_) => None,
        };
        self.core.listening().into_iter().filter_map(row).collect()
    }

    fn connections(&self) -> Vec<(Address, Address, Address)> {
        let connections = self.core.connections();
        connections
            .into_iter()
            .map(|found| (pair(found.client), pair(found.target), pair(found.destination)))
            .collect()
    }

    fn targets(&self, py: Python<'_>) -> HashSet<Address> {
        py.detach(|| self.core.targets()).into_iter().map(pair).collect()
    }

    fn statistics(&self) -> HashMap<&'static str, u64> {
        let counts = self.core.statistics();
        HashMap::from([
            ("accepted", counts.accepted),
            ("refused", counts.refused),
            ("retried", counts.retried),
            ("dropped", counts.dropped),
            ("open", counts.open as u64),
        ])
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Namespaces>()?;
    module.add_class::<Forwarder>()
}
