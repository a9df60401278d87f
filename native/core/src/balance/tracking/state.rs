//! The states of a tracked connection: what a packet makes of them and how long each is remembered.
//!
//! As net/netfilter/ipvs/ip_vs_proto_tcp.c and ip_vs_proto_udp.c have it for masquerading, where both directions pass.

use crate::balance::flow::Protocol;

/// What matters of a TCP packet's flags; of several set the first named here counts. Other protocols have data only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    Reset,
    Syn,
    Finish,
    /// An acknowledgement, with or without data; any packet of UDP and SCTP.
    Data,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    FromClient,
    ToClient,
}

/// Named as `ipvsadm -Lnc` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    None,
    Established,
    SynSent,
    SynReceived,
    FinWait,
    TimeWait,
    Close,
    CloseWait,
    LastAck,
    /// All of UDP and SCTP.
    Untracked,
}

use State::{Close, CloseWait, Established, FinWait, LastAck, None as New, SynReceived, SynSent, TimeWait};

impl State {
    const ALL: [Self; 10] = [
        New,
        Established,
        SynSent,
        SynReceived,
        FinWait,
        TimeWait,
        Close,
        CloseWait,
        LastAck,
        Self::Untracked,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            New => "NONE",
            Established => "ESTABLISHED",
            SynSent => "SYN_SENT",
            SynReceived => "SYN_RECV",
            FinWait => "FIN_WAIT",
            TimeWait => "TIME_WAIT",
            Close => "CLOSE",
            CloseWait => "CLOSE_WAIT",
            LastAck => "LAST_ACK",
            Self::Untracked => "UDP",
        }
    }

    pub(super) fn from_number(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(New)
    }

    /// Does a connection in this state count as active? UDP's never do: IPVS counts them with the inactive ones.
    pub fn is_active(self) -> bool {
        matches!(self, Established | SynSent | SynReceived)
    }

    /// The state after a packet.
    pub fn after(self, protocol: Protocol, direction: Direction, segment: Segment) -> Self {
        if protocol != Protocol::Tcp {
            return Self::Untracked;
        }
        match direction {
            Direction::FromClient => self.after_client(segment),
            Direction::ToClient => self.after_server(segment),
        }
    }

    fn after_client(self, segment: Segment) -> Self {
        match (segment, self) {
            (Segment::Syn, Established | SynSent) => Established,
            (Segment::Syn, _) => SynReceived,
            (Segment::Finish, New) => Close,
            (Segment::Finish, Established) => CloseWait,
            (Segment::Finish, SynReceived | FinWait) => TimeWait,
            (Segment::Data, New | SynReceived) => Established,
            (Segment::Data, LastAck) => Close,
            (Segment::Reset, SynReceived) => SynReceived,
            (Segment::Reset, LastAck) => LastAck,
            (Segment::Reset, _) => Close,
            (Segment::Finish | Segment::Data, same) => same,
        }
    }

    fn after_server(self, segment: Segment) -> Self {
        match (segment, self) {
            (Segment::Syn, Established) => Established,
            (Segment::Syn, SynReceived) => SynReceived,
            (Segment::Syn, _) => SynSent,
            (Segment::Finish, Established) => FinWait,
            (Segment::Finish, New | SynReceived | CloseWait) => TimeWait,
            (Segment::Data, New | SynReceived) => Established,
            (Segment::Reset, SynSent) => SynSent,
            (Segment::Reset, TimeWait) => TimeWait,
            (Segment::Reset, _) => Close,
            (Segment::Finish | Segment::Data, same) => same,
        }
    }
}

/// How long a connection without packets is remembered, in milliseconds (`ipvsadm --set` for the three).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub established: u64,
    pub fin_wait: u64,
    /// Also of SCTP.
    pub udp: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { established: 900_000, fin_wait: 120_000, udp: 300_000 }
    }
}

impl Timeouts {
    pub(super) fn of(self, state: State) -> u64 {
        match state {
            Established => self.established,
            FinWait => self.fin_wait,
            State::Untracked => self.udp,
            SynSent | TimeWait => 120_000,
            SynReceived | CloseWait => 60_000,
            LastAck => 30_000,
            Close => 10_000,
            New => 2_000,
        }
    }
}
