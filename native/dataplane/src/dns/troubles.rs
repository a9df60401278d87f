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
struct State {
    asked: Vec<SocketAddr>,
    failing: FxHashMap<SocketAddr, Failing>,
}

#[derive(Default)]
pub struct Troubles {
    state: Mutex<State>,
    observer: OnceLock<Observer>,
}

impl Troubles {
    /// Called whenever [`Self::list`] has become another one. There is one observer.
    pub fn observe(&self, observer: impl Fn() + Send + Sync + 'static) {
        let _ = self.observer.set(Box::new(observer));
    }

    /// Who has not answered lately, and why.
    pub fn list(&self) -> Vec<(SocketAddr, String)> {
        let state = self.state.lock();
        let told = state.failing.iter().filter(|(_, one)| one.times >= TOLD_FROM);
        told.map(|(server, one)| (*server, one.why.clone())).collect()
    }

    pub(super) fn failed(&self, server: SocketAddr, why: &str) {
        let changed = {
            let mut state = self.state.lock();
            if !state.asked.contains(&server) {
                return; // an answer was awaited when it was asked no more
            }
            let one = state.failing.entry(server).or_insert_with(|| Failing { times: 0, why: String::new() });
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
        let before = self.state.lock().failing.remove(&server);
        self.tell(before.is_some_and(|one| one.times >= TOLD_FROM));
    }

    /// All others are asked no more.
    pub(super) fn keep(&self, servers: &[SocketAddr]) {
        let gone = {
            let mut state = self.state.lock();
            servers.clone_into(&mut state.asked);
            let before = state.failing.len();
            state.failing.retain(|server, _| servers.contains(server));
            state.failing.len() < before
        };
        self.tell(gone);
    }

    fn tell(&self, changed: bool) {
        if let Some(observer) = self.observer.get().filter(|_| changed) {
            observer();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_asked_no_more_is_not_told_of_by_who_still_waited_for_it() {
        let (kept, gone) = (([127, 0, 0, 1], 53).into(), ([127, 0, 0, 2], 53).into());
        let troubles = Troubles::default();
        troubles.keep(&[kept, gone]);
        for server in [kept, gone, kept, gone] {
            troubles.failed(server, "timed out");
        }
        assert_eq!(troubles.list().len(), 2);
        troubles.keep(&[kept]);
        troubles.failed(gone, "timed out");
        troubles.failed(gone, "timed out");
        assert_eq!(troubles.list(), [(kept, "timed out".to_owned())]);
    }
}
