//! What would be of one node's sums if pods came or left, without changing them.

use super::facts::HostPort;
use super::nodes::TakenPort;
use super::template::Template;

/// Pods that are thought to have come to a node or to have left it.
#[derive(Default)]
pub struct Shift {
    pods: i64,
    /// By the number of the resource.
    requested: Vec<i64>,
    /// None of them 0.
    ports: Vec<(HostPort, i32)>,
}

pub static UNMOVED: Shift = Shift { pods: 0, requested: Vec::new(), ports: Vec::new() };

impl Shift {
    /// One pod of the template has come (`by` is 1) or has left (-1).
    pub fn count(&mut self, template: &Template, by: i32) {
        self.pods += i64::from(by);
        for &(resource, amount) in &template.requests {
            if self.requested.len() <= resource {
                self.requested.resize(resource + 1, 0);
            }
            let requested = &mut self.requested[resource];
            *requested = requested.wrapping_add(amount.wrapping_mul(i64::from(by)));
        }
        for port in &template.ports {
            self.count_port(port, by);
        }
    }

    /// As if no pod had moved.
    pub fn clear(&mut self) {
        self.pods = 0;
        self.requested.clear();
        self.ports.clear();
    }

    fn count_port(&mut self, port: &HostPort, by: i32) {
        let Some(index) = self.ports.iter().position(|(moved, _)| moved == port) else {
            self.ports.push((port.clone(), by));
            return;
        };
        self.ports[index].1 += by;
        if self.ports[index].1 == 0 {
            self.ports.swap_remove(index);
        }
    }

    pub fn pods(&self) -> i64 {
        self.pods
    }

    pub fn requested(&self, resource: usize) -> i64 {
        self.requested.get(resource).copied().unwrap_or_default()
    }

    /// Those that are taken, of a node on which `taken` are.
    pub fn ports<'a>(&'a self, taken: &'a [TakenPort]) -> impl Iterator<Item = &'a HostPort> {
        let moved = |port: &HostPort| self.ports.iter().find(|one| one.0 == *port).map_or(0, |one| one.1);
        let stay = taken.iter().filter(move |(port, count)| *count as i32 + moved(port) > 0);
        let come = self.ports.iter().filter(|one| one.1 > 0);
        stay.map(|one| &one.0).chain(come.map(|one| &one.0))
    }
}
