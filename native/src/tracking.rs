use std::net::SocketAddr;
use std::sync::Arc;

use kubecore_core::balance::{
    Balancer as CoreBalancer, Direction, Packet, Segment, Timeouts, TrackedConnection, Verdict,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::balance::{Balancer, ip, milliseconds};

type Address = (String, u16);

fn socket_address(address: &Address) -> PyResult<SocketAddr> {
    Ok(SocketAddr::new(ip(&address.0)?, address.1))
}

fn pair(address: SocketAddr) -> Address {
    (address.ip().to_string(), address.port())
}

/// By the letters tcpdump prints; as in IPVS a reset counts before SYN, and SYN before FIN.
fn segment(flags: &str) -> PyResult<Segment> {
    if let Some(unknown) = flags.chars().find(|flag| !"SFRPAUEW.".contains(*flag)) {
        return Err(PyValueError::new_err(format!("unknown TCP flag {unknown:?} in {flags:?}")));
    }
    let has = |flag| flags.contains(flag);
    Ok(match () {
        () if has('R') => Segment::Reset,
        () if has('S') => Segment::Syn,
        () if has('F') => Segment::Finish,
        () => Segment::Data,
    })
}

/// protocol, client, target, destination, state, seconds left
type Row = (&'static str, Address, Address, Address, &'static str, f64);

/// The connection table of a balancer, for who sees packets rather than connections.
#[pyclass(frozen, module = "kubecore._native")]
pub struct ConnectionTable {
    core: Arc<CoreBalancer>,
}

#[pymethods]
impl ConnectionTable {
    #[new]
    fn new(balancer: &Balancer) -> Self {
        Self { core: Arc::clone(&balancer.core) }
    }

    #[pyo3(signature = (protocol, client, target, *, now, flags = "", reply = false, mark = 0, length = 0))]
    #[allow(clippy::too_many_arguments)]
    fn forward(
        &self,
        protocol: &str,
        client: Address,
        target: Address,
        now: f64,
        flags: &str,
        reply: bool,
        mark: u32,
        length: u64,
    ) -> PyResult<(&'static str, Option<Address>)> {
        let packet = Packet {
            protocol: protocol.parse().map_err(PyValueError::new_err)?,
            client: socket_address(&client)?,
            target: socket_address(&target)?,
            mark,
            direction: if reply { Direction::ToClient } else { Direction::FromClient },
            segment: segment(flags)?,
            bytes: length,
        };
        Ok(match self.core.forward(&packet, milliseconds(now)) {
            Verdict::Carry(destination) => ("carry", Some(pair(destination))),
            Verdict::Pass => ("pass", None),
            Verdict::Refuse => ("refuse", None),
            Verdict::Drop => ("drop", None),
        })
    }

    fn connections(&self, py: Python<'_>, now: f64) -> Vec<Row> {
        let now = milliseconds(now);
        let row = |found: TrackedConnection| {
            let left = match found.expires {
                u64::MAX => f64::INFINITY,
                expires => expires.saturating_sub(now) as f64 / 1000.0,
            };
            let (client, target) = (pair(found.client), pair(found.target));
            (found.protocol.as_str(), client, target, pair(found.destination), found.state.as_str(), left)
        };
        py.detach(|| self.core.tracked().into_iter().map(row).collect())
    }

    fn expire(&self, py: Python<'_>, now: f64) -> usize {
        py.detach(|| self.core.expire(milliseconds(now)))
    }

    #[pyo3(signature = (*, tcp = None, tcp_fin = None, udp = None))]
    fn set_timeouts(&self, tcp: Option<f64>, tcp_fin: Option<f64>, udp: Option<f64>) {
        let present = self.core.timeouts();
        self.core.set_timeouts(Timeouts {
            established: tcp.map_or(present.established, milliseconds),
            fin_wait: tcp_fin.map_or(present.fin_wait, milliseconds),
            udp: udp.map_or(present.udp, milliseconds),
        });
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<ConnectionTable>()
}
