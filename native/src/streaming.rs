//! Requests passed on to a backend, and the kubelet's sessions: exec, attach, port-forward.

use std::net::IpAddr;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kubecore_front::forward::Forward;
use kubecore_front::handoff::{Handoff, Reply, Serve};
use kubecore_front::upgrade::switched;
use kubecore_outgoing::Peer;
use kubecore_streaming::port_forward::{self, Subject};
use kubecore_streaming::{PodNetwork, Process, Session, Transport, Wanted, port_forward_channels, tunnel};
use kubecore_tls::{Trust, client_config};
use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tokio::sync::watch;

use crate::answering::callback;
use crate::headers::header_list;
use crate::rbac::UserInfo;
use crate::request::Request;

/// What connections to backends show and expect; made once, shared by all.
#[pyclass(frozen, module = "kubecore._native")]
pub struct BackendTls(pub Arc<kubecore_front::rustls::ClientConfig>);

#[pymethods]
impl BackendTls {
    #[new]
    #[pyo3(signature = (*, identity=None, ca_pem=None, named=false, system=false))]
    fn new(
        identity: Option<(Vec<u8>, Vec<u8>)>,
        ca_pem: Option<Vec<u8>>,
        named: bool,
        system: bool,
    ) -> PyResult<Self> {
        let identity = identity.as_ref().map(|(certificate, key)| (certificate.as_slice(), key.as_slice()));
        let trust = match ca_pem.as_deref() {
            Some(pem) if named => Trust::Named(pem),
            Some(pem) => Trust::Issued(pem),
            None if system => Trust::System,
            None => Trust::Anyone,
        };
        let config = client_config(trust, identity);
        config.map(|config| Self(Arc::new(config))).map_err(|error| PyValueError::new_err(error.to_string()))
    }
}

/// Answer a request with what a backend answers.
#[pyfunction]
#[pyo3(signature = (request, *, host, port, target, tls=None, prefix=None, rejects_redirects=false, server_name=None,
    user=None, patience=None))]
#[allow(clippy::too_many_arguments)] // where, and how
fn forward(
    request: &Request,
    host: String,
    port: u16,
    target: String,
    tls: Option<&BackendTls>,
    prefix: Option<String>,
    rejects_redirects: bool,
    server_name: Option<String>,
    user: Option<&UserInfo>,
    patience: Option<f64>,
) -> PyResult<()> {
    let tls = tls.map(|tls| tls.0.clone());
    let user = user.map(|user| user.0.clone());
    let patience = patience.map(Duration::try_from_secs_f64).transpose();
    let patience = patience.map_err(|_| PyValueError::new_err("not a duration"))?;
    request.reply(Reply::Forward(Box::new(Forward {
        peer: Peer { host, port, tls, server_name },
        user,
        patience,
        target,
        prefix,
        rejects_redirects,
    })))
}

/// Tells Python once, however the session ends, even if it never begins.
struct Closing {
    on_closed: Option<Py<PyAny>>,
    handoff: Handoff,
}

impl Drop for Closing {
    fn drop(&mut self) {
        if let Some(on_closed) = self.on_closed.take() {
            self.handoff.call(callback(on_closed));
        }
    }
}

/// An exec or attach under way. Dropped without an outcome, it ends without one.
#[pyclass(frozen, module = "kubecore._native")]
pub struct ContainerSession {
    outcome: Mutex<Option<watch::Sender<Option<Bytes>>>>,
}

#[pymethods]
impl ContainerSession {
    fn finish(&self, outcome: &[u8]) {
        if let Some(told) = self.outcome.lock().take() {
            told.send_replace(Some(Bytes::copy_from_slice(outcome)));
        }
    }
}

fn transport(name: &str) -> PyResult<Transport> {
    match name {
        "spdy" => Ok(Transport::Spdy),
        "websocket" => Ok(Transport::WebSocket { base64: false, closes: false }),
        "websocket-base64" => Ok(Transport::WebSocket { base64: true, closes: false }),
        "websocket-closing" => Ok(Transport::WebSocket { base64: false, closes: true }),
        _ => Err(PyValueError::new_err(format!("no transport {name:?}"))),
    }
}

fn owned(descriptor: RawFd) -> Option<OwnedFd> {
    // SAFETY: Python gives the descriptor away with the call.
    (descriptor >= 0).then(|| unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Switch a request's connection to a session with a process's streams; the descriptors (-1 for none) are given away.
#[pyfunction]
#[pyo3(signature = (request, headers, *, transport, wanted, resizable, descriptors, on_closed))]
fn serve_container(
    request: &Request,
    headers: Vec<(String, String)>,
    transport: &str,
    wanted: (bool, bool, bool, bool),
    resizable: bool,
    descriptors: (RawFd, RawFd, RawFd, RawFd),
    on_closed: Py<PyAny>,
) -> PyResult<ContainerSession> {
    let (stdin, stdout, stderr, terminal) = descriptors;
    let process = Process {
        stdin: owned(stdin),
        stdout: owned(stdout),
        stderr: owned(stderr),
        terminal: owned(terminal),
    };
    let (told, outcome) = watch::channel(None);
    let (stdin, stdout, stderr, tty) = wanted;
    let session = Session {
        wanted: Wanted { stdin, stdout, stderr, tty },
        transport: self::transport(transport)?,
        resizable,
        process,
        outcome,
    };
    let headers = header_list(None, &headers)?;
    let closing = Closing { on_closed: Some(on_closed), handoff: request.handoff().clone() };
    let serve: Serve = Box::new(move |upgrade| {
        Box::pin(async move {
            let _closing = closing;
            if let Some(connection) = switched(upgrade).await {
                // What breaks a session is the client's loss, or the process's; both have ended.
                let _ = session.run(connection).await;
            }
        })
    });
    request.reply(Reply::Upgrade { status: 101, headers, serve })?;
    Ok(ContainerSession { outcome: Mutex::new(Some(told)) })
}

/// Switch a request's connection to one that is forwarded to a pod's ports. `network` is the descriptor of the pod's
/// network namespace, given away, or -1 where it is reached by its `addresses` alone.
#[pyfunction]
#[pyo3(signature = (request, headers, *, transport, ports, network, addresses, pod, uid))]
#[allow(clippy::too_many_arguments)] // keywords in Python
fn serve_port_forward(
    request: &Request,
    headers: Vec<(String, String)>,
    transport: &str,
    ports: Vec<u16>,
    network: RawFd,
    addresses: Vec<IpAddr>,
    pod: String,
    uid: String,
) -> PyResult<()> {
    let network = match owned(network) {
        Some(namespace) => PodNetwork::Namespace(Arc::new(namespace), addresses),
        None => PodNetwork::Addresses(addresses),
    };
    let subject = Subject { pod, uid };
    let headers = header_list(None, &headers)?;
    let transport = match transport {
        "spdy" => Forwarding::Spdy,
        "spdy-tunnel" => Forwarding::Tunnel,
        "websocket" => Forwarding::Channels { base64: false },
        "websocket-base64" => Forwarding::Channels { base64: true },
        _ => return Err(PyValueError::new_err(format!("no transport {transport:?}"))),
    };
    let serve: Serve = Box::new(move |upgrade| {
        Box::pin(async move {
            let Some(connection) = switched(upgrade).await else { return };
            match transport {
                Forwarding::Spdy => port_forward::serve(connection, network, subject).await,
                Forwarding::Tunnel => {
                    tunnel::through(connection, |inner| port_forward::serve(inner, network, subject)).await;
                }
                Forwarding::Channels { base64 } => {
                    port_forward_channels::serve(connection, base64, ports, network, subject).await;
                }
            }
        })
    });
    request.reply(Reply::Upgrade { status: 101, headers, serve })
}

enum Forwarding {
    Spdy,
    Tunnel,
    Channels { base64: bool },
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<BackendTls>()?;
    module.add_class::<ContainerSession>()?;
    module.add_function(wrap_pyfunction!(forward, module)?)?;
    module.add_function(wrap_pyfunction!(serve_container, module)?)?;
    module.add_function(wrap_pyfunction!(serve_port_forward, module)?)
}
