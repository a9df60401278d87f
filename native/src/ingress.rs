use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use kubecore_core::balance::{HashOptions, ServiceOptions};
use kubecore_ingress::table::PathKind;
use kubecore_ingress::{
    BackendSpec, Certificate, HostSpec, Ingress as CoreIngress, Options, Protocol, RouteSpec, TlsError,
    TlsSpec,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::balance::{Wanted, ip, persistence, specs};
use crate::clock::Clock;
use crate::dataplane::{os_error, runtime, seconds};

/// A certificate chain and its key, which belong together.
#[pyclass(frozen, module = "kubecore._native")]
pub struct IngressCertificate {
    core: Certificate,
}

fn tls_error(error: TlsError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

#[pymethods]
impl IngressCertificate {
    #[new]
    fn new(chain: &[u8], key: &[u8]) -> PyResult<Self> {
        Ok(Self { core: Certificate::from_pem(chain, key).map_err(tls_error)? })
    }
}

/// (exact, path, backend, Ingress)
type PyRoute = (bool, String, String, String);
/// (backend, Ingress)
type PyTarget = (String, String);
/// (host, None or (routes, default))
type PyHost = (String, Option<(Vec<PyRoute>, Option<PyTarget>)>);

fn host_spec((routes, default): (Vec<PyRoute>, Option<PyTarget>)) -> HostSpec {
    let route = |(exact, path, backend, ingress)| RouteSpec {
        kind: if exact { PathKind::Exact } else { PathKind::Prefix },
        path,
        backend,
        ingress,
    };
    HostSpec { routes: routes.into_iter().map(route).collect(), default }
}

/// What is spoken, and whether in TLS.
fn protocol(name: &str) -> PyResult<(Protocol, bool)> {
    match name {
        "http" => Ok((Protocol::Http1, false)),
        "https" => Ok((Protocol::Http1, true)),
        "h2c" => Ok((Protocol::Http2, false)),
        "h2" => Ok((Protocol::Http2, true)),
        _ => {
            let expected = "expected http, https, h2c or h2";
            Err(PyValueError::new_err(format!("unknown protocol {name:?}: {expected}")))
        }
    }
}

/// An HTTP reverse proxy that routes by host and path to balanced destinations.
#[pyclass(frozen, module = "kubecore._native")]
pub struct IngressProxy {
    core: CoreIngress,
}

#[pymethods]
impl IngressProxy {
    #[new]
    #[pyo3(signature = (clock = None, *, connect_timeout = 5.0, response_timeout = 60.0, attempts = 3,
                        header_timeout = 30.0, idle_timeout = 75.0, write_stall_timeout = 60.0, max_header_bytes = 65536))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        clock: Option<&Clock>,
        connect_timeout: f64,
        response_timeout: f64,
        attempts: usize,
        header_timeout: f64,
        idle_timeout: f64,
        write_stall_timeout: f64,
        max_header_bytes: usize,
    ) -> PyResult<Self> {
        let options = Options {
            connect_timeout: seconds(connect_timeout)?,
            response_timeout: seconds(response_timeout)?,
            attempts: attempts.max(1),
            header_timeout: seconds(header_timeout)?,
            idle_timeout: seconds(idle_timeout)?,
            write_stall_timeout: seconds(write_stall_timeout)?,
            max_header_bytes,
            ..Options::default()
        };
        let clock = clock.map(|clock| clock.core.clone()).unwrap_or_default();
        Ok(Self { core: CoreIngress::new(runtime()?.handle().clone(), clock, options) })
    }

    #[pyo3(signature = (address, port, *, tls = false, ahead = false))]
    fn listen(&self, py: Python<'_>, address: &str, port: u16, tls: bool, ahead: bool) -> PyResult<u16> {
        let address = SocketAddr::new(ip(address)?, port);
        let bound = py.detach(|| {
            if tls { self.core.listen_https(address, ahead) } else { self.core.listen_http(address, ahead) }
        });
        bound.map(|bound| bound.port()).map_err(os_error)
    }

    #[pyo3(signature = (hosts, default = None))]
    fn set_certificates(
        &self,
        hosts: Vec<(String, PyRef<'_, IngressCertificate>)>,
        default: Option<&IngressCertificate>,
    ) {
        let hosts = hosts.into_iter().map(|(host, certificate)| (host, certificate.core.clone())).collect();
        self.core.set_certificates(hosts, default.map(|certificate| certificate.core.clone()));
    }

    #[pyo3(signature = (name, destinations, *, protocol = "http", scheduler = "rr", persistence_seconds = None,
                        tls_name = "", tls_roots = None, tls_identity = None, connect_timeout = None,
                        read_timeout = None))]
    #[allow(clippy::too_many_arguments)]
    fn set_backend(
        &self,
        py: Python<'_>,
        name: &str,
        destinations: Vec<Wanted>,
        protocol: &str,
        scheduler: &str,
        persistence_seconds: Option<f64>,
        tls_name: &str,
        tls_roots: Option<Vec<u8>>,
        tls_identity: Option<(Vec<u8>, Vec<u8>)>,
        connect_timeout: Option<f64>,
        read_timeout: Option<f64>,
    ) -> PyResult<()> {
        let (protocol, secure) = self::protocol(protocol)?;
        let tls = TlsSpec {
            name: tls_name.to_owned(),
            roots: tls_roots,
            identity: tls_identity,
            http2: protocol == Protocol::Http2,
        };
        let spec = BackendSpec {
            protocol,
            tls: secure.then_some(tls),
            connect_timeout: connect_timeout.map(seconds).transpose()?,
            read_timeout: read_timeout.map(seconds).transpose()?,
            options: ServiceOptions {
                scheduler: scheduler.parse().map_err(PyValueError::new_err)?,
                persistence: persistence(persistence_seconds, None, false)?,
                hash: HashOptions { port: false, fallback: true },
            },
            destinations: specs(destinations)?,
        };
        py.detach(|| self.core.set_backend(name, &spec)).map_err(tls_error)
    }

    fn remove_backend(&self, py: Python<'_>, name: &str) -> bool {
        py.detach(|| self.core.remove_backend(name))
    }

    fn set_hosts(&self, py: Python<'_>, changes: Vec<PyHost>) {
        let changes = changes.into_iter().map(|(host, spec)| (host, spec.map(host_spec))).collect();
        py.detach(|| self.core.set_hosts(changes));
    }

    #[pyo3(signature = (fallback))]
    fn set_fallback(&self, py: Python<'_>, fallback: Option<PyTarget>) {
        let fallback = fallback.as_ref().map(|(backend, ingress)| (backend.as_str(), ingress.as_str()));
        py.detach(|| self.core.set_fallback(fallback));
    }

    fn route(&self, authority: &str, path: &str) -> Option<String> {
        self.core.route(authority, path)
    }

    fn log_to(&self, py: Python<'_>, path: Option<PathBuf>) -> PyResult<()> {
        py.detach(|| self.core.log_to(path.as_deref())).map_err(os_error)
    }

    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counts = self.core.statistics();
        let described = PyDict::new(py);
        described.set_item("statuses", counts.statuses)?;
        described.set_item("retries", counts.retries)?;
        described.set_item("bytes", counts.bytes)?;
        described.set_item("accepted", counts.accepted)?;
        described.set_item("open", counts.open)?;
        described.set_item("upgraded", counts.upgraded)?;
        described.set_item("idle_connections", counts.idle_connections)?;
        described.set_item("hosts", counts.hosts)?;
        described.set_item("log_lines_dropped", counts.log_lines_dropped)?;
        described.set_item("backends", counts.backends)?;
        Ok(described)
    }

    #[pyo3(signature = (grace = 0.0))]
    fn shutdown(&self, py: Python<'_>, grace: f64) -> PyResult<()> {
        let grace: Duration = seconds(grace)?;
        let ending = self.core.shutdown(grace);
        let runtime = runtime()?;
        py.detach(|| runtime.block_on(ending));
        Ok(())
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<IngressCertificate>()?;
    module.add_class::<IngressProxy>()
}
