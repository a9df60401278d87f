//! What Linux's own IPVS did with the scripts of `ipvs_golden.json`, done again by ours.
//!
//! tests/e2e/test_ipvs.py takes the answers from a kernel and holds the file against them; what the steps mean is told
//! in tests/e2e/ipvs/scripts.py.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use kubecore_core::balance::{
    Balancer, DestinationSpec, Direction, HashOptions, Packet, Persistence, Protocol, Segment, ServiceKey,
    ServiceOptions, Timeouts, Verdict, VirtualService,
};
use serde::Deserialize;
use serde_json::{Value, json};

const SERVER_PORT: u16 = 9000;
/// Of a UDP connection that is to go, as the guest sets it for the last packet.
const UDP_CLOSING: u64 = 5000;

#[derive(Deserialize)]
struct Golden {
    scripts: Vec<Script>,
}

#[derive(Deserialize)]
struct Script {
    name: String,
    scheduler: String,
    protocol: String,
    mark: u32,
    port: u16,
    targets: Vec<IpAddr>,
    servers: Vec<IpAddr>,
    persistence: u64,
    netmask: std::net::Ipv4Addr,
    hash_port: bool,
    fallback: bool,
    wait_seconds: u64,
    steps: Vec<Vec<Value>>,
    answers: Vec<Value>,
}

impl Script {
    fn options(&self) -> ServiceOptions {
        let persistence = (self.persistence > 0).then(|| Persistence {
            prefix_v4: u32::from(self.netmask).count_ones() as u8,
            ..Persistence::new(self.persistence * 1000)
        });
        ServiceOptions {
            scheduler: self.scheduler.parse().unwrap(),
            persistence,
            hash: HashOptions { port: self.hash_port, fallback: self.fallback },
        }
    }
}

/// One end of a TCP connection has finished: nothing more is sent by it but answers.
#[derive(Default)]
struct Ends {
    client_finished: bool,
    server_finished: bool,
}

struct Open {
    client: SocketAddr,
    target: SocketAddr,
    server: usize,
    ends: Ends,
}

struct Run<'a> {
    script: &'a Script,
    protocol: Protocol,
    balancer: Balancer,
    service: Arc<VirtualService>,
    /// In the order they were added.
    present: Vec<(usize, DestinationSpec)>,
    open: HashMap<usize, Open>,
    connections: usize,
    now: u64,
}

impl<'a> Run<'a> {
    fn new(script: &'a Script) -> Self {
        let protocol: Protocol = script.protocol.parse().unwrap();
        let key = match script.mark {
            0 => ServiceKey::new(protocol, SocketAddr::new(script.targets[0], script.port)),
            mark => ServiceKey::Mark(mark),
        };
        let balancer = Balancer::new();
        let service = balancer.put(key, script.options());
        let (present, open) = (Vec::new(), HashMap::new());
        Self { script, protocol, balancer, service, present, open, connections: 0, now: 0 }
    }

    /// The answer to a step, for those that have one.
    fn step(&mut self, step: &[Value]) -> Option<Value> {
        let number = |index: usize| step[index].as_u64().unwrap();
        match step[0].as_str().unwrap() {
            "add" | "edit" => {
                let server = number(1) as usize;
                let spec = DestinationSpec {
                    address: SocketAddr::new(self.script.servers[server], SERVER_PORT),
                    weight: number(2) as u32,
                    upper_threshold: number(3) as u32,
                    lower_threshold: number(4) as u32,
                };
                match self.present.iter_mut().find(|(present, _)| *present == server) {
                    Some(row) => row.1 = spec,
                    None => self.present.push((server, spec)),
                }
                self.configure();
            }
            "remove" => {
                self.present.retain(|(present, _)| *present != number(1) as usize);
                self.configure();
            }
            "connect" => {
                let client = SocketAddr::new(step[1].as_str().unwrap().parse().unwrap(), number(2) as u16);
                return Some(self.connect(client, number(3) as usize));
            }
            "counts" => return Some(self.counts()),
            "wait" => {
                self.now += self.script.wait_seconds * 1000;
                self.balancer.expire(self.now);
            }
            ending => self.end(ending, number(1) as usize),
        }
        None
    }

    fn configure(&self) {
        let specs: Vec<_> = self.present.iter().map(|(_, spec)| *spec).collect();
        self.service.set_destinations(&specs);
    }

    fn send(
        &self,
        client: SocketAddr,
        target: SocketAddr,
        direction: Direction,
        segment: Segment,
    ) -> Verdict {
        let (protocol, mark) = (self.protocol, self.script.mark);
        let packet = Packet { protocol, client, target, mark, direction, segment, bytes: 40 };
        self.balancer.forward(&packet, self.now)
    }

    fn connect(&mut self, client: SocketAddr, target: usize) -> Value {
        let target = SocketAddr::new(self.script.targets[target], self.script.port);
        let number = self.connections;
        self.connections += 1;
        let first = if self.protocol == Protocol::Tcp { Segment::Syn } else { Segment::Data };
        let Verdict::Carry(address) = self.send(client, target, Direction::FromClient, first) else {
            return Value::Null;
        };
        if self.protocol == Protocol::Tcp {
            self.send(client, target, Direction::ToClient, Segment::Syn);
            self.send(client, target, Direction::FromClient, Segment::Data);
        }
        let server = self.script.servers.iter().position(|ip| *ip == address.ip()).unwrap();
        self.open.insert(number, Open { client, target, server, ends: Ends::default() });
        json!(server)
    }

    fn end(&mut self, how: &str, number: usize) {
        let Some(mut open) = self.open.remove(&number) else { return };
        let reachable = self.present.iter().any(|(present, _)| *present == open.server);
        if !reachable {
            self.open.insert(number, open);
            return;
        }
        match (self.protocol, how) {
            (Protocol::Udp, "close") => {
                self.balancer.set_timeouts(Timeouts { udp: UDP_CLOSING, ..Timeouts::default() });
                self.send(open.client, open.target, Direction::FromClient, Segment::Data);
                self.balancer.set_timeouts(Timeouts::default());
            }
            (Protocol::Udp, _) => {}
            (_, "half_close") => self.finish(&mut open, Direction::FromClient),
            (_, "server_half_close") => self.finish(&mut open, Direction::ToClient),
            (_, "close") => {
                self.finish(&mut open, Direction::FromClient);
                self.finish(&mut open, Direction::ToClient);
            }
            (_, "reset") => {
                if !(open.ends.client_finished && open.ends.server_finished) {
                    self.send(open.client, open.target, Direction::FromClient, Segment::Reset);
                }
            }
            (_, unknown) => panic!("step {unknown}"),
        }
        if how.contains("half") {
            self.open.insert(number, open);
        }
    }

    fn finish(&self, open: &mut Open, direction: Direction) {
        let (finished, other) = match direction {
            Direction::FromClient => (&mut open.ends.client_finished, Direction::ToClient),
            Direction::ToClient => (&mut open.ends.server_finished, Direction::FromClient),
        };
        if !std::mem::replace(finished, true) {
            self.send(open.client, open.target, direction, Segment::Finish);
            self.send(open.client, open.target, other, Segment::Data);
        }
    }

    fn counts(&self) -> Value {
        let number = |address: SocketAddr| self.script.servers.iter().position(|ip| *ip == address.ip());
        let destinations = self.service.destinations();
        let rows = destinations
            .iter()
            .map(|found| json!([number(found.address()), found.weight(), found.active(), found.inactive()]));
        Value::Array(rows.collect())
    }
}

/// The first answer that differs.
fn difference(script: &Script) -> Option<String> {
    let mut run = Run::new(script);
    let mut answers = script.answers.iter();
    for (index, step) in script.steps.iter().enumerate() {
        let Some(ours) = run.step(step) else { continue };
        let theirs = answers.next().unwrap_or(&Value::Null);
        if ours != *theirs {
            return Some(format!("{}, step {index} {step:?}: {ours}, the kernel: {theirs}", script.name));
        }
    }
    None
}

#[test]
fn every_connection_goes_where_the_kernel_sent_it_and_all_counts_agree() {
    let golden: Golden = serde_json::from_str(include_str!("ipvs_golden.json")).unwrap();
    let differences: Vec<_> = golden.scripts.iter().filter_map(difference).collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    let schedulers: HashSet<_> = golden.scripts.iter().map(|script| &script.scheduler).collect();
    assert_eq!(schedulers.len(), 12);
}
