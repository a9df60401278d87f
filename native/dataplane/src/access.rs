//! Who may come to a virtual service. The kernel judges it: a filter of the socket (classic BPF) drops packets of others
//! without a word, as a firewall does, and so does no connection of theirs come into being.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use kubecore_core::balance::VirtualService;
pub use kubecore_sockets::Range;
use socket2::{SockFilter, Socket};

use crate::proxy_protocol::ProxyProtocol;

/// Who a rule is about, by where he comes from.
#[derive(Clone, Debug)]
pub enum Clients {
    Everybody,
    /// This host itself, and `Access::inside_ranges`.
    Inside,
    From(Vec<Range>),
}

/// Clients that another service leads than the listener's own.
#[derive(Clone, Debug)]
pub struct Led {
    pub clients: Clients,
    /// Of those who come to one of these addresses; empty: whichever.
    pub targets: Vec<IpAddr>,
    /// Whose destinations they get; None: the listener's after all.
    pub service: Option<Arc<VirtualService>>,
}

impl Led {
    fn serves(&self, own: &VirtualService) -> bool {
        self.service.as_deref().unwrap_or(own).serving()
    }
}

/// The rules of one virtual service.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// All that may connect; empty: everybody.
    pub sources: Vec<Range>,
    /// Who comes while there is no destination is dropped, not refused: there are some, but not for him.
    pub silent: bool,
    /// Who is led otherwise; the first that fits counts.
    pub led: Vec<Led>,
    /// Some may have to be dropped at any moment while others are served: there is to be a socket with a filter already,
    /// for who is just being connected does not survive a change of sockets.
    pub apart: bool,
    /// What is inside, besides this host itself.
    pub inside_ranges: Vec<Range>,
    /// Destinations that are to see the addresses of clients from outside: their answers come back through this host.
    pub transparent_ranges: Vec<Range>,
    /// Destinations of TCP are told their clients so.
    pub proxy_protocol: Option<ProxyProtocol>,
}

impl Access {
    pub(crate) fn allows(&self, client: IpAddr) -> bool {
        self.sources.is_empty() || self.sources.iter().any(|range| range.contains(client))
    }

    /// The service that a client is to be led by, if it is not the listener's own.
    pub(crate) fn other_for(&self, client: SocketAddr, target: SocketAddr) -> Option<&Arc<VirtualService>> {
        self.led.iter().find(|led| self.is_about(led, client, target))?.service.as_ref()
    }

    fn is_about(&self, led: &Led, client: SocketAddr, target: SocketAddr) -> bool {
        let there = led.targets.is_empty() || led.targets.contains(&target.ip());
        there
            && match &led.clients {
                Clients::Everybody => true,
                Clients::Inside => self.is_inside(client, target),
                Clients::From(ranges) => ranges.iter().any(|range| range.contains(client.ip())),
            }
    }

    /// Is a connection to be made in the client's name?
    pub(crate) fn borrows(&self, client: SocketAddr, target: SocketAddr, destination: SocketAddr) -> bool {
        !self.transparent_ranges.is_empty()
            && client.is_ipv4() == destination.is_ipv4()
            && !client.ip().is_loopback()
            && self.transparent_ranges.iter().any(|range| range.contains(destination.ip()))
            && !self.is_inside(client, target)
    }

    /// Who comes from the address he goes to is on this host.
    fn is_inside(&self, client: SocketAddr, target: SocketAddr) -> bool {
        let ip = client.ip();
        ip == target.ip() || self.inside_ranges.iter().any(|range| range.contains(ip))
    }

    /// Is the port to be open, for whomever?
    pub(crate) fn opens(&self, service: &VirtualService) -> bool {
        service.serving() || self.silent || self.led.iter().any(|led| led.serves(service))
    }

    /// Is somebody to be dropped for want of a destination that he may go to?
    fn leaves_out(&self, service: &VirtualService) -> bool {
        self.silent && !(service.serving() && self.led.iter().all(|led| led.serves(service)))
    }

    /// Is somebody to be dropped by the filter of a socket, or may he be?
    pub(crate) fn needs_socket(&self, service: &VirtualService) -> bool {
        self.apart || !self.sources.is_empty() || self.leaves_out(service)
    }

    /// Have `socket` take packets of those alone that may come. Where the kernel takes no filter of this length, what is
    /// asked of `allows` still holds, and whom no destination is for is refused.
    pub(crate) fn guard(&self, socket: &Socket, service: &VirtualService, ipv4: bool) {
        let mut program = Program { ipv4, code: Vec::new() };
        if !self.sources.is_empty() {
            program.admit(&self.sources);
        }
        if self.leaves_out(service) {
            for led in &self.led {
                program.judge(led, &self.inside_ranges, led.serves(service));
            }
            program.push(verdict(service.serving()), 0);
        }
        let _ = if program.code.is_empty() || program.code.len() >= LONGEST {
            socket.detach_filter()
        } else {
            program.push(verdict(true), 0);
            socket.attach_filter(&program.code)
        };
    }
}

// BPF_LD|W|ABS, BPF_ALU|AND|K, BPF_JMP|JEQ|K and |X, BPF_JMP|JA, BPF_MISC|TAX, BPF_RET|K of linux/filter.h
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const EQUAL: u16 = 0x15;
const EQUAL_X: u16 = 0x1d;
const JUMP: u16 = 0x05;
const TO_X: u16 = 0x07;
const RETURN: u16 = 0x06;
/// Offsets from here on are into the IP header (SKF_NET_OFF).
const IP_HEADER: u32 = 0xfff0_0000;

/// The kernel's limit (BPF_MAXINSNS).
const LONGEST: usize = 4096;

/// Code and operand.
type Statement = (u16, u32);

fn verdict(passes: bool) -> Statement {
    (RETURN, if passes { u32::MAX } else { 0 })
}

/// Nothing comes in by the socket any more: it is for sending alone.
pub(crate) fn close_to_all(socket: &Socket) -> io::Result<()> {
    let (code, value) = verdict(false);
    socket.attach_filter(&[SockFilter::new(code, 0, 0, value)])
}

/// A filter under construction: a packet goes through it from stage to stage, until one returns a verdict.
struct Program {
    ipv4: bool,
    code: Vec<SockFilter>,
}

impl Program {
    fn push(&mut self, (code, value): Statement, if_not: u8) {
        self.code.push(SockFilter::new(code, 0, if_not, value));
    }

    /// Comparisons that all must hold for `then`; else what follows is next.
    fn push_block(&mut self, block: &[Statement], then: Statement) {
        for (at, statement) in block.iter().enumerate() {
            let compares = matches!(statement.0, EQUAL | EQUAL_X);
            self.push(*statement, if compares { (block.len() - at) as u8 } else { 0 });
        }
        self.push(then, 0);
    }

    fn source(&self, word: u32) -> Statement {
        (LOAD, IP_HEADER + if self.ipv4 { 12 } else { 8 } + word * 4)
    }

    fn destination(&self, word: u32) -> Statement {
        (LOAD, IP_HEADER + if self.ipv4 { 16 } else { 24 } + word * 4)
    }

    /// Packets from `ranges` alone go on to the next stage.
    fn admit(&mut self, ranges: &[Range]) {
        let blocks = self.from(ranges);
        // Each block ends with a jump behind the stage, whose end is the return that drops.
        let mut left: usize = blocks.iter().map(|block| block.len() + 1).sum();
        for block in blocks {
            left -= block.len() + 1;
            self.push_block(&block, (JUMP, left as u32 + 1));
        }
        self.push(verdict(false), 0);
    }

    /// Packets of those whom a rule is about pass, or do not; others go on to the next stage.
    fn judge(&mut self, led: &Led, inside: &[Range], passes: bool) {
        let sources = match &led.clients {
            Clients::Everybody => vec![Vec::new()],
            Clients::From(ranges) => self.from(ranges),
            Clients::Inside => {
                let mut blocks = self.from(inside);
                blocks.push(self.own_address());
                blocks
            }
        };
        let targets = if led.targets.is_empty() { vec![Vec::new()] } else { self.to(&led.targets) };
        for (target, source) in targets.iter().flat_map(|one| sources.iter().map(move |other| (one, other))) {
            self.push_block(&[&target[..], source].concat(), verdict(passes));
        }
    }

    /// A block for each range of the program's family.
    fn from(&self, ranges: &[Range]) -> Vec<Vec<Statement>> {
        let fitting = ranges.iter().filter(|range| range.is_ipv4() == self.ipv4);
        fitting.map(|range| block(range, |word| self.source(word))).collect()
    }

    fn to(&self, targets: &[IpAddr]) -> Vec<Vec<Statement>> {
        let fitting = targets.iter().copied().filter(|address| address.is_ipv4() == self.ipv4);
        fitting.map(|address| block(&Range::of(address), |word| self.destination(word))).collect()
    }

    fn own_address(&self) -> Vec<Statement> {
        let words = if self.ipv4 { 1 } else { 4 };
        let word = |index| [self.destination(index), (TO_X, 0), self.source(index), (EQUAL_X, 0)];
        (0..words).flat_map(word).collect()
    }
}

fn block(range: &Range, load: impl Fn(u32) -> Statement) -> Vec<Statement> {
    let mut code = Vec::new();
    for (index, (value, mask)) in range.words().into_iter().enumerate() {
        code.push(load(index as u32));
        if mask != u32::MAX {
            code.push((AND, mask));
        }
        code.push((EQUAL, value));
    }
    code
}
