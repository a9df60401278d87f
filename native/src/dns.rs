use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::sync::Arc;

use kubecore_dataplane::dns::{DnsForwarding, DnsOptions, DnsServer as CoreServer, RecordError, RecordSpec};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::balance::ip;
use crate::bell::Bell;
use crate::clock::Clock;
use crate::dataplane::{os_error, runtime};

const DNS_PORT: u16 = 53;

/// Answers DNS queries from tables, and forwards what is not in them.
#[pyclass(frozen, module = "kubecore._native")]
pub struct DnsServer {
    core: CoreServer,
    bell: Arc<Bell>,
}

/// (name, type, TTL, value)
type PyRecord = (String, String, u32, String);

fn record_error(error: RecordError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// "10.0.0.2", "10.0.0.2:5353", "fd00::1" or "[fd00::1]:5353".
fn resolver(text: &str) -> PyResult<SocketAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, DNS_PORT));
    }
    text.parse().map_err(|_| PyValueError::new_err(format!("{text:?} is not an address of a resolver")))
}

fn resolvers(texts: &[String]) -> PyResult<Vec<SocketAddr>> {
    texts.iter().map(|text| resolver(text)).collect()
}

fn forwarding(upstreams: &[String], stubs: HashMap<String, Vec<String>>) -> PyResult<DnsForwarding> {
    let stubs = stubs
        .into_iter()
        .map(|(domain, servers)| Ok((domain, resolvers(&servers)?)))
        .collect::<PyResult<Vec<_>>>()?;
    Ok(DnsForwarding { upstreams: resolvers(upstreams)?, stubs })
}

#[pymethods]
impl DnsServer {
    #[new]
    #[pyo3(signature = (domain, clock = None, *, upstreams = Vec::new(), stub_domains = HashMap::new()))]
    fn new(
        domain: String,
        clock: Option<&Clock>,
        upstreams: Vec<String>,
        stub_domains: HashMap<String, Vec<String>>,
    ) -> PyResult<Self> {
        let options = DnsOptions { domain, forwarding: forwarding(&upstreams, stub_domains)? };
        let clock = clock.map(|clock| clock.core.clone()).unwrap_or_default();
        let core = CoreServer::new(runtime()?.handle().clone(), clock, options).map_err(record_error)?;
        let bell = Arc::new(Bell::new().map_err(os_error)?);
        let rung = Arc::clone(&bell);
        core.troubles().observe(move || rung.ring());
        Ok(Self { core, bell })
    }

    fn set_records(&self, py: Python<'_>, changes: Vec<(String, Vec<PyRecord>)>) -> PyResult<()> {
        let spec = |(name, kind, ttl, value)| RecordSpec { name, kind, ttl, value };
        let changes: Vec<_> = changes
            .into_iter()
            .map(|(owner, records)| (owner, records.into_iter().map(spec).collect::<Vec<_>>()))
            .collect();
        py.detach(|| self.core.set_records(&changes)).map_err(record_error)
    }

    #[pyo3(signature = (upstreams, stub_domains = HashMap::new()))]
    fn set_upstreams(
        &self,
        py: Python<'_>,
        upstreams: Vec<String>,
        stub_domains: HashMap<String, Vec<String>>,
    ) -> PyResult<()> {
        let forwarding = forwarding(&upstreams, stub_domains)?;
        py.detach(|| self.core.set_forwarding(forwarding)).map_err(record_error)
    }

    fn set_search(&self, py: Python<'_>, domains: Vec<String>) -> PyResult<()> {
        py.detach(|| self.core.set_search(&domains)).map_err(record_error)
    }

    fn set_clients(&self, py: Python<'_>, clients: Vec<(String, Option<String>)>) -> PyResult<()> {
        let clients = clients
            .into_iter()
            .map(|(address, first)| Ok((ip(&address)?, first)))
            .collect::<PyResult<Vec<_>>>()?;
        py.detach(|| self.core.set_clients(&clients)).map_err(record_error)
    }

    #[pyo3(signature = (address, port, *, ahead = false))]
    fn listen(&self, py: Python<'_>, address: &str, port: u16, ahead: bool) -> PyResult<(String, u16)> {
        let address = SocketAddr::new(ip(address)?, port);
        let bound = py.detach(|| self.core.listen(address, ahead)).map_err(os_error)?;
        Ok((bound.ip().to_string(), bound.port()))
    }

    fn close(&self, address: &str, port: u16) -> PyResult<bool> {
        Ok(self.core.close(SocketAddr::new(ip(address)?, port)))
    }

    fn shutdown(&self, py: Python<'_>) {
        py.detach(|| self.core.shutdown());
    }

    fn listening(&self) -> Vec<(String, u16)> {
        self.core.listening().into_iter().map(|bound| (bound.ip().to_string(), bound.port())).collect()
    }

    fn answer<'py>(&self, py: Python<'py>, query: &[u8]) -> Option<Bound<'py, PyBytes>> {
        self.core.answer(query).map(|reply| PyBytes::new(py, &reply))
    }

    fn fileno(&self) -> RawFd {
        self.bell.fileno()
    }

    fn troubles(&self) -> HashMap<String, String> {
        self.bell.clear();
        self.core.troubles().list().into_iter().map(|(server, why)| (server.to_string(), why)).collect()
    }

    fn statistics(&self) -> HashMap<&'static str, u64> {
        let counts = self.core.statistics();
        HashMap::from([
            ("queries", counts.queries),
            ("forwarded", counts.forwarded),
            ("records", counts.records as u64),
        ])
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<DnsServer>()
}
