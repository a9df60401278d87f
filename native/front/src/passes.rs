//! Reads wait their turn. They are answered while their connection is polled, and the runtime polls connections in the
//! order in which they become readable: without turns, a user with hundreds of connections would keep another waiting
//! for an answer on each of them. So of each user only a few reads are answered in one pass over what is readable;
//! what is more waits in lines (`Turns`), of which each pass lets a few go on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use kubecore_core::authn::UserInfo;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use crate::exchange::Exchange;
use crate::server::Server;
use crate::turns::Turns;

/// Reads of a user that a pass answers at once, and those of all users that it lets go on.
const SHARE: usize = 16;

/// Users that are known from one pass to the next.
const MOST_KNOWN: usize = 256;

/// How long a pass lasts while nobody waits: few reads are asked for that fast but by those who take all there is.
const LONGEST: Duration = Duration::from_millis(1);

#[derive(Default)]
pub(crate) struct Passes(Mutex<State>);

struct State {
    began: Instant,
    number: u64,
    /// By user, in the pass of that number. Others count for nothing, but those who come again are known already.
    answered: FxHashMap<Box<str>, (u64, usize)>,
    waiting: Turns<Box<str>, oneshot::Sender<()>>,
    /// Somebody begins the next pass.
    is_kept_up: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            number: 0,
            answered: FxHashMap::default(),
            waiting: Turns::new(),
            is_kept_up: false,
        }
    }
}

impl State {
    fn begin(&mut self, now: Instant) {
        self.began = now;
        self.number += 1;
        if self.answered.len() > MOST_KNOWN {
            self.answered.clear();
        }
    }

    /// Whether this user's next read is answered at once: who has some in line is not.
    fn takes(&mut self, whose: &str) -> bool {
        if self.waiting.has(whose) {
            return false;
        }
        let Some((pass, answered)) = self.answered.get_mut(whose) else {
            self.answered.insert(whose.into(), (self.number, 1));
            return true;
        };
        if *pass != self.number {
            (*pass, *answered) = (self.number, 0);
        }
        *answered += 1;
        *answered <= SHARE
    }

    /// Begins a pass; false when nobody waits any more.
    fn let_some_go_on(&mut self, now: Instant) -> bool {
        self.begin(now);
        let mut gone = 0;
        while gone < SHARE
            && let Some(waits) = self.waiting.pop()
        {
            // A client that has left meanwhile takes no turn.
            gone += usize::from(waits.send(()).is_ok());
        }
        self.is_kept_up = self.waiting.len() > 0;
        self.is_kept_up
    }
}

impl Server {
    /// When a read may be answered; None: now, as all else may be.
    pub(crate) fn turn_of(
        self: &Arc<Self>,
        exchange: &Exchange,
        user: Option<&UserInfo>,
    ) -> Option<oneshot::Receiver<()>> {
        let is_read = exchange.method == Method::GET && exchange.info.is_resource() && !exchange.delegated;
        if !is_read || !exchange.connection.secure {
            return None;
        }
        self.turn(&user?.username, exchange.started)
    }

    /// None: the read may be answered at once. Else it may once this is told.
    fn turn(self: &Arc<Self>, whose: &str, now: Instant) -> Option<oneshot::Receiver<()>> {
        let mut state = self.passes.0.lock();
        if !state.is_kept_up && now.saturating_duration_since(state.began) > LONGEST {
            state.begin(now);
        }
        if state.takes(whose) {
            return None;
        }
        let (told, turn) = oneshot::channel();
        state.waiting.push(whose.into(), told);
        if !std::mem::replace(&mut state.is_kept_up, true) {
            let server = self.clone();
            self.handle().spawn(async move {
                loop {
                    // Goes on after what is readable now has been polled, or a good part of it.
                    tokio::task::yield_now().await;
                    if !server.passes.0.lock().let_some_go_on(Instant::now()) {
                        return;
                    }
                }
            });
        }
        Some(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(state: &mut State, whose: &str, count: usize) -> Vec<oneshot::Receiver<()>> {
        let line = (0..count).map(|_| {
            let (told, turn) = oneshot::channel();
            state.waiting.push(whose.into(), told);
            turn
        });
        line.collect()
    }

    fn told(line: &mut [oneshot::Receiver<()>]) -> usize {
        line.iter_mut().map(|turn| usize::from(turn.try_recv().is_ok())).sum()
    }

    #[test]
    fn a_pass_answers_a_share_of_each_user_at_once() {
        let mut state = State::default();
        assert_eq!((0..SHARE * 2).filter(|_| state.takes("crowd")).count(), SHARE);
        assert!(state.takes("other"));
        state.begin(Instant::now());
        assert!(state.takes("crowd"));
    }

    #[test]
    fn of_many_users_no_more_are_known_than_there_is_room_for() {
        let mut state = State::default();
        for number in 0..=MOST_KNOWN {
            assert!(state.takes(&number.to_string()));
        }
        state.begin(Instant::now());
        assert!(state.answered.is_empty());
        assert_eq!((0..SHARE * 2).filter(|_| state.takes("0")).count(), SHARE);
    }

    #[test]
    fn who_waits_is_not_overtaken_by_his_own() {
        let mut state = State::default();
        let _line = lines(&mut state, "crowd", 1);
        assert!(!state.takes("crowd"));
        assert!(state.takes("other"));
    }

    #[test]
    fn who_comes_behind_a_crowd_goes_on_with_the_next_pass() {
        let mut state = State::default();
        let mut crowd = lines(&mut state, "crowd", 300);
        let mut other = lines(&mut state, "other", 1);
        assert!(state.let_some_go_on(Instant::now()));
        assert_eq!((told(&mut crowd), told(&mut other)), (SHARE - 1, 1));
    }

    #[test]
    fn clients_that_have_left_take_no_turn_and_passes_end_with_the_last_one() {
        let mut state = State::default();
        drop(lines(&mut state, "crowd", 300));
        let mut last = lines(&mut state, "crowd", 1);
        assert!(!state.let_some_go_on(Instant::now()));
        assert_eq!(told(&mut last), 1);
    }
}
