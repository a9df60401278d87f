//! Networks that only a namespace knows, and sockets of theirs.

use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, RawFd};
use std::sync::Arc;

use kubecore_launch::{SocketKind, sockets_within};
use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::balance::ip;
use crate::dataplane::{os_error, ranges};

/// Addresses for which sockets are made in a network namespace.
#[pyclass(frozen, module = "kubecore._native")]
struct NodeNetwork {
    core: Mutex<Option<Arc<kubecore_sockets::Network>>>,
}

fn borrowed(descriptor: &RawFd) -> PyResult<BorrowedFd<'_>> {
    if *descriptor < 0 {
        return Err(PyValueError::new_err(format!("{descriptor} is no descriptor")));
    }
    // SAFETY: the caller holds it open for the time of the call.
    Ok(unsafe { BorrowedFd::borrow_raw(*descriptor) })
}

#[pymethods]
impl NodeNetwork {
    #[new]
    fn new(ranges: Vec<String>, namespace: RawFd) -> PyResult<Self> {
        let own = borrowed(&namespace)?.try_clone_to_owned().map_err(os_error)?;
        let core = kubecore_sockets::add_network(self::ranges(&ranges)?, own).map_err(os_error)?;
        Ok(Self { core: Mutex::new(Some(core)) })
    }

    fn close(&self) {
        if let Some(core) = self.core.lock().take() {
            kubecore_sockets::remove_network(&core);
        }
    }
}

#[pyfunction]
fn is_elsewhere(address: &str) -> PyResult<bool> {
    Ok(kubecore_sockets::network_of(ip(address)?).is_some())
}

/// The descriptor of a socket for an address, which the caller owns.
#[pyfunction]
fn socket_for(py: Python<'_>, address: &str, kind: i32) -> PyResult<RawFd> {
    let address = ip(address)?;
    let made = py.detach(|| kubecore_sockets::socket(address, kind.into()));
    Ok(made.map_err(os_error)?.into_raw_fd())
}

/// The descriptor of a socket of a network namespace, which the caller owns.
#[pyfunction]
fn socket_within(py: Python<'_>, namespace: RawFd, domain: i32, kind: i32, protocol: i32) -> PyResult<RawFd> {
    let namespace = borrowed(&namespace)?;
    let kind = SocketKind { domain, kind, protocol };
    let made = py.detach(|| sockets_within(namespace.as_fd(), kind, 1));
    let mut made = made.map_err(|error| os_error(std::io::Error::from_raw_os_error(error.errno)))?;
    made.pop().map(IntoRawFd::into_raw_fd).ok_or_else(|| PyValueError::new_err("no socket was made"))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<NodeNetwork>()?;
    module.add_function(wrap_pyfunction!(is_elsewhere, module)?)?;
    module.add_function(wrap_pyfunction!(socket_for, module)?)?;
    module.add_function(wrap_pyfunction!(socket_within, module)?)
}
