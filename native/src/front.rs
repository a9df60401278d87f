//! `Front`, `Request` and the streams that answer it.

use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kubecore_core::clock::Clock as CoreClock;
use kubecore_core::protobuf::Protobuf;
use kubecore_core::watch_cache::{ResourceId, WatchCache as CoreCache};
use kubecore_front::cached::{CacheLookup, followed_policy};
use kubecore_front::exchange::Exchange;
use kubecore_front::handoff::{Callback, Handoff, Pending, Reply};
use kubecore_front::health::endpoint;
use kubecore_front::http::header;
use kubecore_front::routes::Route;
use kubecore_front::server::{Limits, MetricsSource, Server};
use kubecore_front::stream::StreamState;
use kubecore_front::tls::server_config;
use kubecore_front::upgrade::UpgradeState;
use parking_lot::Mutex;
use pyo3::exceptions::{PyKeyError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyList};
use tokio::sync::oneshot;

use crate::cache::WatchCache;
use crate::clock::Clock;
use crate::custom::CustomSchema;
use crate::error::io_error;
use crate::headers::header_list;
use crate::rbac::{Authenticator, Authorizer, UserInfo};
use crate::route;

/// A Python callable made into something that `drain` runs.
pub(crate) fn callback(callable: Py<PyAny>) -> Callback {
    Box::new(move || {
        Python::attach(|py| {
            if let Err(error) = callable.call0(py) {
                error.write_unraisable(py, Some(callable.bind(py)));
            }
        });
    })
}

#[pyclass(frozen, module = "kubecore._native")]
pub struct Front {
    server: Arc<Server>,
    cache: Arc<CoreCache>,
}

fn seconds(value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value).map_err(|_| PyValueError::new_err("not a duration"))
}

#[pymethods]
impl Front {
    #[new]
    #[allow(clippy::too_many_arguments)] // limits, all with defaults
    #[pyo3(signature = (cache, *, clock=None, max_body_bytes=3 << 20, max_header_bytes=(1 << 20) + 4096, max_connections=16384,
        handshake_timeout=10.0, header_timeout=32.0, idle_timeout=90.0, body_timeout=60.0, write_stall_timeout=30.0,
        min_watch_seconds=1800.0))]
    fn new(
        cache: &WatchCache,
        clock: Option<&Clock>,
        max_body_bytes: usize,
        max_header_bytes: usize,
        max_connections: usize,
        handshake_timeout: f64,
        header_timeout: f64,
        idle_timeout: f64,
        body_timeout: f64,
        write_stall_timeout: f64,
        min_watch_seconds: f64,
    ) -> PyResult<Self> {
        let limits = Limits {
            max_body_bytes,
            max_header_bytes,
            max_connections,
            handshake_timeout: seconds(handshake_timeout)?,
            header_timeout: seconds(header_timeout)?,
            idle_timeout: seconds(idle_timeout)?,
            body_timeout: seconds(body_timeout)?,
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

    #[pyo3(signature = (host, port, *, certificate_pem, key_pem))]
    fn listen_tls(&self, host: &str, port: u16, certificate_pem: &[u8], key_pem: &[u8]) -> PyResult<u16> {
        let config =
            server_config(certificate_pem, key_pem).map_err(|e| PyValueError::new_err(e.to_string()))?;
        self.server.listen_tls(host, port, config).map_err(io_error)
    }

    /// Python keeps its own descriptor of the socket, and may close it.
    #[pyo3(signature = (listener, *, certificate_pem, key_pem))]
    fn listen_tls_on(&self, listener: RawFd, certificate_pem: &[u8], key_pem: &[u8]) -> PyResult<u16> {
        let config =
            server_config(certificate_pem, key_pem).map_err(|e| PyValueError::new_err(e.to_string()))?;
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
            has_status: subresources.iter().any(|own| own == "status"),
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

    fn authenticator(&self) -> Authenticator {
        Authenticator(self.server.authenticator.clone())
    }

    fn authorizer(&self) -> Authorizer {
        Authorizer(self.server.authorizer.clone())
    }

    fn set_version(&self, info: Vec<u8>) {
        self.server.version.store(Arc::new(Bytes::from(info)));
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

    fn set_metrics_source(&self, source: Option<Py<PyAny>>) {
        let source = source.map(|source| -> MetricsSource {
            Arc::new(move || {
                Python::attach(|py| {
                    let text = source.call0(py).and_then(|text| text.extract::<Vec<u8>>(py));
                    text.unwrap_or_else(|error| {
                        error.write_unraisable(py, Some(source.bind(py)));
                        Vec::new()
                    })
                })
            })
        });
        *self.server.metrics_source.write() = source;
    }

    fn metrics(&self) -> Vec<u8> {
        self.server.metrics.render().into_bytes()
    }

    fn fileno(&self) -> i32 {
        self.server.handoff.fileno()
    }

    #[pyo3(signature = (limit=256))]
    fn drain<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Bound<'py, PyList>> {
        let (callbacks, requests) = self.server.handoff.drain(limit.max(1));
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
        Ok(())
    }
}

#[pyclass(frozen, module = "kubecore._native")]
pub struct Request {
    exchange: Arc<Exchange>,
    pending: Mutex<Option<oneshot::Sender<Reply>>>,
    user: Option<Arc<kubecore_core::authn::UserInfo>>,
    authenticated: Option<bool>,
    authorized: Option<bool>,
    presence: Arc<kubecore_front::handoff::Presence>,
    body: Bytes,
    body_object: PyOnceLock<Py<PyBytes>>,
    handoff: Handoff,
}

impl Request {
    fn new(pending: Pending, handoff: Handoff) -> Self {
        Self {
            exchange: pending.exchange,
            pending: Mutex::new(Some(pending.reply)),
            user: pending.decisions.user,
            authenticated: pending.decisions.authenticated,
            authorized: pending.decisions.authorized,
            presence: pending.presence,
            body: pending.body,
            body_object: PyOnceLock::new(),
            handoff,
        }
    }

    pub(crate) fn handoff(&self) -> &Handoff {
        &self.handoff
    }

    pub(crate) fn reply(&self, reply: Reply) -> PyResult<()> {
        let Some(sender) = self.pending.lock().take() else {
            return Err(PyRuntimeError::new_err("the request was answered before"));
        };
        // A client that is gone needs no answer.
        let _ = sender.send(reply);
        Ok(())
    }

    fn text(&self, name: header::HeaderName) -> &str {
        self.exchange.header(name).unwrap_or("")
    }
}

#[pymethods]
impl Request {
    #[getter]
    fn method(&self) -> &str {
        self.exchange.method.as_str()
    }
    #[getter]
    fn path(&self) -> &str {
        self.exchange.info.path()
    }
    #[getter]
    fn query(&self) -> &str {
        &self.exchange.query
    }
    #[getter]
    fn verb(&self) -> &str {
        self.exchange.info.verb()
    }
    #[getter]
    fn is_resource(&self) -> bool {
        self.exchange.info.is_resource()
    }
    #[getter]
    fn api_group(&self) -> &str {
        self.exchange.info.group()
    }
    #[getter]
    fn api_version(&self) -> &str {
        self.exchange.info.version()
    }
    #[getter]
    fn namespace(&self) -> &str {
        self.exchange.info.namespace()
    }
    #[getter]
    fn resource(&self) -> &str {
        self.exchange.info.resource()
    }
    #[getter]
    fn subresource(&self) -> &str {
        self.exchange.info.subresource()
    }
    #[getter]
    fn name(&self) -> &str {
        self.exchange.info.name()
    }
    #[getter]
    fn rest(&self) -> &str {
        self.exchange.info.rest()
    }
    #[getter]
    fn accept(&self) -> &str {
        self.text(header::ACCEPT)
    }
    #[getter]
    fn content_type(&self) -> &str {
        self.text(header::CONTENT_TYPE)
    }
    #[getter]
    fn user_agent(&self) -> &str {
        self.text(header::USER_AGENT)
    }
    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        self.body_object.get_or_init(py, || PyBytes::new(py, &self.body).unbind()).bind(py).clone()
    }
    #[getter]
    fn remote(&self) -> String {
        self.exchange.connection.remote.to_string()
    }
    #[getter]
    fn secure(&self) -> bool {
        self.exchange.connection.secure
    }
    #[getter]
    fn user(&self) -> Option<UserInfo> {
        self.user.clone().map(UserInfo)
    }
    #[getter]
    fn authenticated(&self) -> Option<bool> {
        self.authenticated
    }
    #[getter]
    fn authorized(&self) -> Option<bool> {
        self.authorized
    }
    #[getter]
    fn wants_upgrade(&self) -> bool {
        self.exchange.wants_upgrade()
    }
    #[getter]
    fn cancelled(&self) -> bool {
        self.presence.is_gone()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.exchange.header(name)
    }

    fn headers(&self) -> Vec<(String, String)> {
        let headers = self.exchange.headers.iter();
        headers
            .map(|(name, value)| {
                (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            })
            .collect()
    }

    fn on_cancelled(&self, callback: Py<PyAny>) {
        self.handoff.on_cancelled(&self.presence, self::callback(callback));
    }

    #[pyo3(signature = (status, body, content_type="application/json", headers=Vec::new()))]
    fn respond(
        &self,
        status: u16,
        body: &[u8],
        content_type: &str,
        headers: Vec<(String, String)>,
    ) -> PyResult<()> {
        let headers = header_list(Some(content_type), &headers)?;
        self.reply(Reply::Full { status, headers, body: Bytes::copy_from_slice(body) })
    }

    #[pyo3(signature = (status, content_type, headers=Vec::new()))]
    fn respond_stream(
        &self,
        status: u16,
        content_type: &str,
        headers: Vec<(String, String)>,
    ) -> PyResult<ResponseStream> {
        let headers = header_list(Some(content_type), &headers)?;
        let stream = StreamState::new(self.handoff.clone());
        self.reply(Reply::Stream { status, headers, stream: stream.clone() })?;
        Ok(ResponseStream { stream })
    }

    #[pyo3(signature = (user, *, authorized=false))]
    fn resume(&self, user: &UserInfo, authorized: bool) -> PyResult<()> {
        self.reply(Reply::Resume { user: user.0.clone(), authorized })
    }

    #[pyo3(signature = (headers, status=101))]
    fn upgrade(&self, headers: Vec<(String, String)>, status: u16) -> PyResult<UpgradedConnection> {
        if !self.exchange.wants_upgrade() {
            return Err(PyValueError::new_err("the client asked for no upgrade"));
        }
        let headers = header_list(None, &headers)?;
        let connection = UpgradeState::new(self.handoff.clone());
        self.reply(Reply::Upgrade { status, headers, serve: connection.clone().serve() })?;
        Ok(UpgradedConnection { connection })
    }
}

#[pyclass(frozen, module = "kubecore._native")]
pub struct ResponseStream {
    stream: Arc<StreamState>,
}

#[pymethods]
impl ResponseStream {
    fn write(&self, data: &[u8]) -> bool {
        self.stream.write(Bytes::copy_from_slice(data))
    }
    #[getter]
    fn writable(&self) -> bool {
        self.stream.writable()
    }
    #[getter]
    fn closed(&self) -> bool {
        self.stream.is_closed()
    }
    fn on_writable(&self, callback: Py<PyAny>) {
        self.stream.on_writable(self::callback(callback));
    }
    fn on_closed(&self, callback: Py<PyAny>) {
        self.stream.on_closed(self::callback(callback));
    }
    fn close(&self) {
        self.stream.close();
    }
}

impl Drop for ResponseStream {
    fn drop(&mut self) {
        self.stream.abandon();
    }
}

#[pyclass(frozen, module = "kubecore._native")]
pub struct UpgradedConnection {
    connection: Arc<UpgradeState>,
}

#[pymethods]
impl UpgradedConnection {
    fn on_data(&self, callback: Py<PyAny>) -> PyResult<()> {
        let fresh = self.connection.on_data(Arc::new(move |piece: Bytes| {
            Python::attach(|py| {
                if let Err(error) = callback.call1(py, (PyBytes::new(py, &piece),)) {
                    error.write_unraisable(py, Some(callback.bind(py)));
                }
            });
        }));
        if fresh { Ok(()) } else { Err(PyRuntimeError::new_err("on_data was set before")) }
    }
    fn write(&self, data: &[u8]) -> bool {
        self.connection.outgoing.write(Bytes::copy_from_slice(data))
    }
    #[getter]
    fn writable(&self) -> bool {
        self.connection.outgoing.writable()
    }
    #[getter]
    fn closed(&self) -> bool {
        self.connection.outgoing.is_closed()
    }
    fn on_writable(&self, callback: Py<PyAny>) {
        self.connection.outgoing.on_writable(self::callback(callback));
    }
    fn on_closed(&self, callback: Py<PyAny>) {
        self.connection.outgoing.on_closed(self::callback(callback));
    }
    fn close(&self) {
        self.connection.outgoing.close();
    }
}

impl Drop for UpgradedConnection {
    fn drop(&mut self) {
        self.connection.outgoing.abandon();
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Front>()?;
    module.add_class::<Request>()?;
    module.add_class::<ResponseStream>()?;
    module.add_class::<UpgradedConnection>()
}
