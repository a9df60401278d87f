//! Resolvers that do not answer, so that people can be told: a client that speaks no EDNS only learns that it failed.

use std::net::SocketAddr;
use std::sync::OnceLock;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

/// So often in a row: a packet may be lost.
const TOLD_FROM: u32 = 2;

#[derive(Debug)]
struct Failing {
    times: u32,
    why: String,
}

type Observer = Box<dyn Fn() + Send + Sync>;

#[derive(Default)]
pub struct Troubles {
    failing: Mutex<FxHashMap<SocketAddr, Failing>>,
    observer: OnceLock<Observer>,
}

impl Troubles {
    /// Called whenever [`Self::list`] has become another one. There is one observer.
    pub fn observe(&self, observer: impl Fn() + Send + Sync + 'static) {
        let _ = self.observer.set(Box::new(observer));
    }

    /// Who has not answered lately, and why.
    pub fn list(&self) -> Vec<(SocketAddr, String)> {
        let failing = self.failing.lock();
        let told = failing.iter().filter(|(_, one)| one.times >= TOLD_FROM);
        told.map(|(server, one)| (*server, one.why.clone())).collect()
    }

    pub(super) fn failed(&self, server: SocketAddr, why: &str) {
        let changed = {
            let mut failing = self.failing.lock();
            let one = failing.entry(server).or_insert_with(|| Failing { times: 0, why: String::new() });
            one.times = one.times.saturating_add(1);
            let news = one.times == TOLD_FROM || (one.times > TOLD_FROM && one.why != why);
            if one.why != why {
                why.clone_into(&mut one.why);
            }
            news
        };
        self.tell(changed);
    }

    pub(super) fn answered(&self, server: SocketAddr) {
        let before = self.failing.lock().remove(&server);
        self.tell(before.is_some_and(|one| one.times >= TOLD_FROM));
    }

    /// All others are asked no more.
    pub(super) fn keep(&self, servers: &[SocketAddr]) {
        let gone = {
            let mut failing = self.failing.lock();
            let before = failing.len();
            failing.retain(|server, _| servers.contains(server));
            failing.len() < before
        };
        self.tell(gone);
    }

    fn tell(&self, changed: bool) {
        if let Some(observer) = self.observer.get().filter(|_| changed) {
            observer();
        }
    }
}
