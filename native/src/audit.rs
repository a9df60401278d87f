//! `Audit`, what it records of a request, and events that Python sends on.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kubecore_front::audit::{
    Asked, Buffered, Draft, Fitting, Layer, LogFile, Outbox, Policy, Rotation, Sink, Sources, Stage, Text,
    Told, Trail,
};
use kubecore_front::server::Server;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::answering::callback;
use crate::error::io_error;
use crate::rbac::UserInfo;

#[pyclass(frozen, module = "kubecore._native")]
pub struct Audit(pub Arc<Server>);

#[pymethods]
impl Audit {
    #[allow(clippy::too_many_arguments)] // what `--audit-log-*` says, all with defaults
    #[pyo3(signature = (policy, *, log_path=None, megabytes=0, days=0, backups=0, compress=false, legacy=false,
        buffer=0, strict=false, event_bytes=0, outbox=None))]
    fn configure(
        &self,
        policy: &[u8],
        log_path: Option<PathBuf>,
        megabytes: u64,
        days: u64,
        backups: usize,
        compress: bool,
        legacy: bool,
        buffer: usize,
        strict: bool,
        event_bytes: usize,
        outbox: Option<&AuditOutbox>,
    ) -> PyResult<()> {
        let policy: Policy =
            serde_json::from_slice(policy).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let clock = self.0.clock.clone();
        let mut sinks: Vec<Arc<dyn Sink>> = Vec::new();
        if let Some(path) = log_path {
            let rotation = Rotation { megabytes, days, backups, compress };
            // Who must not go on before it is told waits for each write, and so does the buffer's own thread.
            let grouped = !strict && buffer == 0;
            let log = LogFile::open(&path, rotation, legacy, grouped, clock.clone()).map_err(io_error)?;
            let log = Fitting::new(log, if event_bytes == 0 { usize::MAX } else { event_bytes });
            sinks.push(if buffer == 0 {
                Arc::new(log)
            } else {
                Arc::new(Buffered::new(log, buffer).map_err(io_error)?)
            });
        }
        if let Some(outbox) = outbox {
            sinks.push(outbox.0.clone());
        }
        self.0.audit.configure(policy, sinks, strict, clock);
        Ok(())
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.0.audit.stop());
    }

    fn outbox(&self, room: usize, wake: Py<PyAny>) -> AuditOutbox {
        let handoff = self.0.handoff.clone();
        let wake = Arc::new(wake);
        let wake = move || {
            let wake = wake.clone();
            handoff.call(Box::new(move || {
                Python::attach(|py| callback(wake.clone_ref(py))());
            }));
        };
        AuditOutbox(Arc::new(Outbox::new(room, Box::new(wake))))
    }

    /// A request that did not come through the front; None where the audit does not want to hear of it.
    #[pyo3(signature = (user, verb, uri, path, resource=None, *, user_agent=""))]
    fn begin(
        &self,
        user: &UserInfo,
        verb: &str,
        uri: &str,
        path: &str,
        resource: Option<(String, String, String, String, String, String)>,
        user_agent: &str,
    ) -> Option<AuditRecord> {
        let auditing = self.0.audit.current()?;
        let told = resource.map(|(group, version, resource, subresource, namespace, name)| Told {
            group,
            version,
            resource,
            subresource,
            namespace,
            name,
            is_resource: true,
            ..Told::default()
        });
        let told = Told { verb: verb.to_owned(), path: path.to_owned(), ..told.unwrap_or_default() };
        let text = |text: &str| Text::Own(text.into());
        let received = auditing.now();
        let draft = Draft::new(
            auditing,
            Text::Header(Some(kubecore_front::audit::new_id())),
            text(uri),
            Sources::Direct(Ipv4Addr::LOCALHOST.into()),
            text(user_agent),
            Asked::Told(Arc::new(told)),
            received,
        );
        draft.begin(Some(&user.0)).cloned().map(AuditRecord)
    }

    #[getter]
    fn is_on(&self) -> bool {
        self.0.audit.is_on()
    }
}

/// What is recorded of a request.
#[pyclass(frozen, module = "kubecore._native")]
pub struct AuditRecord(pub Arc<Trail>);

#[pymethods]
impl AuditRecord {
    #[getter]
    fn is_rejected(&self) -> bool {
        self.0.is_rejected()
    }

    #[getter]
    fn wants_request(&self) -> bool {
        self.0.wants_request()
    }

    #[getter]
    fn wants_response(&self) -> bool {
        self.0.wants_response()
    }

    fn annotate(&self, key: &str, value: &str) {
        self.0.annotate(key.to_owned(), value.to_owned());
    }

    fn decided(&self, decision: &str, reason: &str) {
        self.0.decided(decision.to_owned(), reason.to_owned());
    }

    fn named(&self, namespace: &str, name: &str, uid: &str, resource_version: &str) {
        self.0.named(namespace, name, uid, resource_version);
    }

    fn requested(&self, object: &[u8]) {
        self.0.requested(object);
    }

    fn responded(&self, body: &[u8]) {
        self.0.responded(body);
    }

    fn panicked(&self, why: &str) {
        self.0.panicked(why);
    }

    fn took(&self, layer: &str, seconds: f64) -> PyResult<()> {
        let layer = Layer::named(layer).ok_or_else(|| PyValueError::new_err("no layer of a request"))?;
        self.0.took(layer, Duration::try_from_secs_f64(seconds).unwrap_or_default());
        Ok(())
    }

    fn started(&self, code: u16) {
        self.0.coded(code);
        self.0.tell(Stage::ResponseStarted);
    }

    fn complete(&self, code: u16) {
        self.0.coded(code);
        self.0.tell(Stage::ResponseComplete);
    }
}

#[pyclass(frozen, module = "kubecore._native")]
pub struct AuditOutbox(Arc<Outbox>);

#[pymethods]
impl AuditOutbox {
    fn collect<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.0.collect(limit).iter().map(|event| PyBytes::new(py, event)))
    }

    #[getter]
    fn lost(&self) -> u64 {
        self.0.lost()
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Audit>()?;
    module.add_class::<AuditRecord>()?;
    module.add_class::<AuditOutbox>()
}
