//! `Request`: one that `Front` has handed over, until it is answered.

use std::sync::Arc;

use bytes::Bytes;
use kubecore_front::exchange::Exchange;
use kubecore_front::handoff::{Handoff, Pending, Presence, Reply};
use kubecore_front::http::header;
use kubecore_front::stream::StreamState;
use kubecore_front::upgrade::UpgradeState;
use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;
use tokio::sync::oneshot;

use crate::answering::{ResponseStream, UpgradedConnection, callback};
use crate::audit::AuditRecord;
use crate::headers::{head_of, header_list};
use crate::rbac::UserInfo;

#[pyclass(frozen, module = "kubecore._native")]
pub struct Request {
    exchange: Arc<Exchange>,
    pending: Mutex<Option<oneshot::Sender<Reply>>>,
    user: Option<Arc<kubecore_core::authn::UserInfo>>,
    authenticated: Option<bool>,
    authorized: Option<bool>,
    resumed: bool,
    presence: Arc<Presence>,
    body: Bytes,
    body_object: PyOnceLock<Py<PyBytes>>,
    handoff: Handoff,
}

impl Request {
    pub(crate) fn new(pending: Pending, handoff: Handoff) -> Self {
        Self {
            exchange: pending.exchange,
            pending: Mutex::new(Some(pending.reply)),
            user: pending.decisions.user,
            authenticated: pending.decisions.authenticated,
            authorized: pending.decisions.authorized,
            resumed: pending.decisions.resumed,
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
        // A client that is gone needs no answer; who hears of its request does.
        if let Err(reply) = sender.send(reply) {
            self.exchange.answered_to_nobody(&reply);
        }
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
    fn sampled(&self) -> Option<bool> {
        self.exchange.sampled.get().copied()
    }
    #[getter]
    fn secure(&self) -> bool {
        self.exchange.connection.secure
    }
    #[getter]
    fn head<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &head_of(&self.exchange))
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
    fn resumed(&self) -> bool {
        self.resumed
    }
    /// What the audit records of it; None where it does not want to hear of it, or who asks is not known yet.
    #[getter]
    fn audit(&self) -> Option<AuditRecord> {
        self.exchange.trail().cloned().map(AuditRecord)
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

    fn waited(&self, seconds: f64) -> PyResult<()> {
        self.exchange.apart.add(crate::front::seconds(seconds)?);
        Ok(())
    }

    fn identified(&self, user: &UserInfo) {
        self.exchange.begin_audit(Some(&user.0));
        if let Some(trail) = self.exchange.trail() {
            trail.goes_on_as(&user.0);
        }
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

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Request>()
}
