//! `Front`: the listener, what it serves by itself, and requests that it hands over.

use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use kubecore_core::clock::Clock as CoreClock;
use kubecore_core::protobuf::Protobuf;
use kubecore_core::watch_cache::{ResourceId, WatchCache as CoreCache};
use kubecore_front::cached::{CacheLookup, followed_policy};
use kubecore_front::health::endpoint;
use kubecore_front::routes::Route;
use kubecore_front::server::{Limits, MetricsSource, Server};
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::audit::Audit;
use crate::cache::WatchCache;
use crate::clock::Clock;
use crate::custom::CustomSchema;
use crate::error::io_error;
use crate::flow::Flow;
use crate::judged::Judged;
use crate::rbac::{Authenticator, Authorizer};
use crate::request::Request;
use crate::route;
use crate::serving::ServingCertificate;

#[pyclass(frozen, module = "kubecore._native")]
pub struct Front {
    pub(crate) server: Arc<Server>,
    cache: Arc<CoreCache>,
}

pub(crate) fn seconds(value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value).map_err(|_| PyValueError::new_err("not a duration"))
}

#[pymethods]
impl Front {
    #[new]
    #[allow(clippy::too_many_arguments)] // limits, all with defaults
    #[pyo3(signature = (cache, *, clock=None, max_body_bytes=3 << 20, max_header_bytes=(1 << 20) + 4096, max_connections=16384,
        max_streams=1000, handshake_timeout=10.0, header_timeout=32.0, idle_timeout=90.0, body_timeout=60.0, unwanted_body_timeout=1.0,
        write_stall_timeout=30.0, min_watch_seconds=1800.0))]
    fn new(
        cache: &WatchCache,
        clock: Option<&Clock>,
        max_body_bytes: usize,
        max_header_bytes: usize,
        max_connections: usize,
        max_streams: u32,
        handshake_timeout: f64,
        header_timeout: f64,
        idle_timeout: f64,
        body_timeout: f64,
        unwanted_body_timeout: f64,
        write_stall_timeout: f64,
        min_watch_seconds: f64,
    ) -> PyResult<Self> {
        let limits = Limits {
            max_body_bytes,
            max_header_bytes,
            max_connections,
            max_streams,
            handshake_timeout: seconds(handshake_timeout)?,
            header_timeout: seconds(header_timeout)?,
            idle_timeout: seconds(idle_timeout)?,
            body_timeout: seconds(body_timeout)?,
            unwanted_body_timeout: seconds(unwanted_body_timeout)?,
            write_stall_timeout: seconds(write_stall_timeout)?,
            min_watch: seconds(min_watch_seconds)?,
            ..Limits::default()
        };
        let runtime = kubecore_front::runtime().map_err(io_error)?;
        let policy = followed_policy(&cache.core);
        let clock = clock.map_or_else(CoreClock::system, |clock| clock.core.clone());
        let lookup = Arc::new(CacheLookup(cache.core.clone()));
        let server = Server::new(limits, clock, lookup, policy, runtime).map_err(io_error)?;
        Ok(Self { server, cache: cache.core.clone() })
    }

    #[getter]
    fn max_streams(&self) -> u32 {
        self.server.limits.max_streams
    }

    #[getter]
    fn idle_timeout(&self) -> f64 {
        self.server.limits.idle_timeout.as_secs_f64()
    }

    fn listen_tls(&self, host: &str, port: u16, certificate: &ServingCertificate) -> PyResult<u16> {
        self.server.listen_tls(host, port, certificate.server_config()?).map_err(io_error)
    }

    /// Python keeps its own descriptor of the socket, and may close it.
    fn listen_tls_on(&self, listener: RawFd, certificate: &ServingCertificate) -> PyResult<u16> {
        let config = certificate.server_config()?;
        // SAFETY: the descriptor is open while this call lasts, because its owner makes the call.
        let listener = unsafe { BorrowedFd::borrow_raw(listener) }.try_clone_to_owned().map_err(io_error)?;
        self.server.listen_tls_on(listener.into(), config).map_err(io_error)
    }

    fn listen_plain(&self, host: &str, port: u16) -> PyResult<u16> {
        self.server.listen_plain(host, port).map_err(io_error)
    }

    #[allow(clippy::too_many_arguments)] // what a resource is
    #[pyo3(signature = (group, version, plural, resource, namespaced, verbs, subresources, *, schema = None, warning = None))]
    fn route(
        &self,
        group: String,
        version: String,
        plural: String,
        resource: ResourceId,
        namespaced: bool,
        verbs: Vec<String>,
        subresources: Vec<String>,
        schema: Option<&Bound<'_, CustomSchema>>,
        warning: Option<&str>,
    ) -> PyResult<()> {
        let cache = self.cache.resource(resource).ok_or_else(|| PyKeyError::new_err(resource))?;
        let json = route::json(cache.info(), &plural, &version, schema.map(Bound::get))?;
        let warning = warning.map(route::warning).transpose()?;
        let can = |verb: &str| verbs.iter().any(|own| own == verb);
        self.server.routes.put(Route {
            protobuf: Protobuf::version(cache.info(), &version).map(|form| Arc::new(form) as _),
            gets: can("get"),
            lists: can("list"),
            watches: can("watch"),
            subresources,
            group,
            version,
            plural,
            cache,
            json,
            namespaced,
            warning,
        });
        Ok(())
    }

    fn unroute(&self, group: &str, version: &str, plural: &str) {
        self.server.routes.remove(group, version, plural);
    }

    fn delegate(&self, versions: Vec<(String, String)>) {
        self.server.delegation.replace(versions);
    }

    fn audit(&self) -> Audit {
        Audit(self.server.clone())
    }

    fn judged(&self) -> Judged {
        Judged(self.server.clone())
    }

    fn flow(&self) -> Flow {
        Flow(self.server.clone())
    }

    fn authenticator(&self) -> Authenticator {
        Authenticator(self.server.authenticator.clone())
    }

    fn authorizer(&self) -> Authorizer {
        Authorizer(self.server.authorizer.clone())
    }

    /// 0: no bound.
    fn set_in_flight(&self, reading: usize, mutating: usize) {
        self.server.inflight.bound(reading, mutating);
    }

    fn set_version(&self, info: Vec<u8>) {
        self.server.version.store(Arc::new(Bytes::from(info)));
    }

    fn keep_traces(&self, per_million: u32) {
        self.server.tracing.keep(per_million);
    }

    fn set_ready(&self, ready: bool) {
        self.server.health.set_ready(ready);
    }

    #[pyo3(signature = (name, healthy, endpoints=vec!["healthz".into(), "livez".into(), "readyz".into()]))]
    fn set_check(&self, name: &str, healthy: bool, endpoints: Vec<String>) -> PyResult<()> {
        let mut bits = 0;
        for name in &endpoints {
            bits |= endpoint(name)
                .ok_or_else(|| PyValueError::new_err(format!("no health endpoint {name:?}")))?;
        }
        self.server.health.set(name, bits, healthy);
        Ok(())
    }

    fn set_terse(&self, terse: bool) {
        self.server.terse.store(terse, Ordering::Relaxed);
    }

    /// `alone`: nothing is told beside them.
    #[pyo3(signature = (source, *, alone=false))]
    fn set_metrics_source(&self, source: Option<Py<PyAny>>, alone: bool) {
        let source = source.map(|source| {
            let render = Arc::new(move || {
                Python::attach(|py| {
                    let text = source.call0(py).and_then(|text| text.extract::<Vec<u8>>(py));
                    text.unwrap_or_else(|error| {
                        error.write_unraisable(py, Some(source.bind(py)));
                        Vec::new()
                    })
                })
            });
            MetricsSource { render, alone }
        });
        *self.server.metrics_source.write() = source;
    }

    fn metrics(&self) -> Vec<u8> {
        self.server.metrics.render().into_bytes()
    }

    fn fileno(&self) -> i32 {
        self.server.handoff.fileno()
    }

    #[pyo3(signature = (limit=64))]
    fn drain<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Bound<'py, PyList>> {
        let (callbacks, requests) = self.server.drain(limit.max(1));
        callbacks.into_iter().for_each(|callback| callback());
        let requests: Vec<Request> =
            requests.into_iter().map(|pending| Request::new(*pending, self.server.handoff.clone())).collect();
        PyList::new(
            py,
            requests.into_iter().map(|request| Py::new(py, request)).collect::<PyResult<Vec<_>>>()?,
        )
    }

    fn shutdown(&self, py: Python<'_>, grace_seconds: f64) -> PyResult<()> {
        let grace = seconds(grace_seconds)?;
        py.detach(|| self.server.handle().block_on(self.server.shutdown(grace)));
        // It knows of whoever has this front, which Python's garbage collector does not see.
        self.set_metrics_source(None, false);
        Ok(())
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Front>()
}
