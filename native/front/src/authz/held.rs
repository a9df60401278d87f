//! The rights by which something goes on that lasts. Each is looked at again before anything more is told, whenever
//! what it comes from has become another one; and all of them are reviewed together, since who is told nothing for long
//! is to end as well. What modes of Python's decide is decided there, which lets the right lapse here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use kubecore_core::authn::{SYSTEM_MASTERS, UserInfo};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::{Authorizer, Seen, Selectors, Verdict};
use crate::exchange::{Exchange, attributes_of};
use crate::request_info::RequestInfo;

/// What somebody was allowed, and whether he has lost it since.
pub struct Held {
    pub user: Arc<UserInfo>,
    pub info: Arc<RequestInfo>,
    pub selectors: Selectors,
    lapsed: AtomicBool,
    /// Of what goes on by it.
    waiting: AtomicWaker,
}

impl Held {
    /// What goes on by it ends, also while there is nothing to tell.
    pub fn lapse(&self) {
        self.lapsed.store(true, Ordering::Release);
        self.waiting.wake();
    }

    fn has_lapsed(&self) -> bool {
        self.lapsed.load(Ordering::Acquire)
    }
}

/// All that are held, by numbers of their own.
#[derive(Default)]
pub(super) struct Register {
    held: Mutex<FxHashMap<u64, Arc<Held>>>,
    last: AtomicU64,
}

impl Authorizer {
    /// Lets lapse what is refused by now. What is left is for Python to decide.
    pub fn review(&self) -> Vec<Arc<Held>> {
        // Deciding takes its time: others begin and end meanwhile.
        let mut all: Vec<_> = {
            let held = self.rights.held.lock();
            held.values().filter(|held| !held.has_lapsed()).cloned().collect()
        };
        all.retain(|held| match self.of(held) {
            Verdict::Allow => false,
            Verdict::Deny(_) | Verdict::NoOpinion(_) => {
                held.lapse();
                false
            }
            Verdict::Python => true,
        });
        all
    }

    fn of(&self, held: &Held) -> Verdict {
        self.decide(&held.user, &attributes_of(&held.info), || held.selectors.clone(), None)
    }
}

/// Held while it lives.
pub struct HeldRight {
    authorizer: Arc<Authorizer>,
    held: Arc<Held>,
    number: u64,
    /// What it was looked at under last. None before that: between the decision and now it may have become another.
    seen: Option<Seen>,
}

impl HeldRight {
    /// Of a user who has been allowed what the request asks; None for one who loses no right.
    pub fn of(authorizer: &Arc<Authorizer>, user: &Arc<UserInfo>, exchange: &Exchange) -> Option<Self> {
        let masters = user.in_group(SYSTEM_MASTERS);
        let held =
            || Self::new(authorizer.clone(), user.clone(), exchange.info.clone(), exchange.selectors());
        (!masters).then(held)
    }

    fn new(
        authorizer: Arc<Authorizer>,
        user: Arc<UserInfo>,
        info: Arc<RequestInfo>,
        selectors: Selectors,
    ) -> Self {
        let (lapsed, waiting) = (AtomicBool::new(false), AtomicWaker::new());
        let held = Arc::new(Held { user, info, selectors, lapsed, waiting });
        let number = authorizer.rights.last.fetch_add(1, Ordering::Relaxed);
        authorizer.rights.held.lock().insert(number, held.clone());
        Self { authorizer, held, number, seen: None }
    }

    /// Whether it is refused by now. `cx` is woken when it lapses. What Python has to decide goes on until that is
    /// done, in the next review: watches do not wait for it, of which there may be many, and webhooks that do not answer.
    pub fn has_lapsed(&mut self, cx: &mut Context<'_>) -> bool {
        self.held.waiting.register(cx.waker());
        if self.held.has_lapsed() {
            return true;
        }
        if self.seen.as_ref().is_some_and(|seen| self.authorizer.is_current(seen)) {
            return false;
        }
        self.seen = Some(self.authorizer.seen());
        if self.authorizer.of(&self.held).refuses() {
            self.held.lapse();
        }
        self.held.has_lapsed()
    }

    /// Completes when it is refused.
    pub async fn lapsed(mut self) {
        std::future::poll_fn(|cx| if self.has_lapsed(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
    }
}

impl Drop for HeldRight {
    fn drop(&mut self) {
        self.authorizer.rights.held.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::{Wake, Waker};

    use http::Method;
    use kubecore_core::clock::Clock;
    use kubecore_core::rbac::{Change, PolicyKind, PolicyStore};

    use super::*;
    use crate::authz::{Mode, Opinion};

    const ROLE: &[u8] = br#"{"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["watch"]}]}"#;

    fn put<'a>(kind: PolicyKind, name: &'a str, object: Option<&'a [u8]>) -> [Change<'a>; 1] {
        [Change { kind, namespace: "", name, object }]
    }

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Jane's right to watch pods by a binding, which is asked for with a bell.
    struct World {
        policy: Arc<PolicyStore>,
        authorizer: Arc<Authorizer>,
        bell: Arc<Bell>,
    }

    impl World {
        fn new(modes: &[&str]) -> Self {
            let policy = Arc::new(PolicyStore::new());
            let binding =
                br#"{"subjects":[{"kind":"User","name":"jane"}],"roleRef":{"kind":"ClusterRole","name":"r"}}"#;
            policy.apply(put(PolicyKind::ClusterRole, "r", Some(ROLE)));
            policy.apply(put(PolicyKind::ClusterRoleBinding, "b", Some(binding)));
            let authorizer = Arc::new(Authorizer::new(policy.clone(), Clock::system()));
            authorizer.set_modes(Mode::named(modes.iter().copied()).unwrap(), []);
            Self { policy, authorizer, bell: Arc::default() }
        }

        fn right(&self, user: UserInfo) -> HeldRight {
            let info = RequestInfo::parse(&Method::GET, "/api/v1/pods", "watch=1").unwrap();
            HeldRight::new(self.authorizer.clone(), user.into(), info.into(), Selectors::default())
        }

        fn unbind(&self) {
            self.policy.apply(put(PolicyKind::ClusterRoleBinding, "b", None));
        }

        fn has_lapsed(&self, right: &mut HeldRight) -> bool {
            right.has_lapsed(&mut Context::from_waker(&Waker::from(self.bell.clone())))
        }

        fn wakes(&self) -> usize {
            self.bell.0.load(Ordering::SeqCst)
        }
    }

    fn jane() -> UserInfo {
        UserInfo::new("jane", &[])
    }

    #[test]
    fn a_right_lapses_with_the_binding_that_gave_it() {
        let world = World::new(&["RBAC"]);
        let mut right = world.right(jane());
        assert!(!world.has_lapsed(&mut right));
        world.policy.apply(put(PolicyKind::ClusterRole, "other", Some(ROLE)));
        assert!(!world.has_lapsed(&mut right));
        world.unbind();
        assert!(world.has_lapsed(&mut right));
    }

    #[test]
    fn one_that_was_lost_since_the_decision_lapses_at_once() {
        let world = World::new(&["RBAC"]);
        world.unbind();
        assert!(world.has_lapsed(&mut world.right(jane())));
    }

    #[test]
    fn a_review_wakes_who_has_lost_his_and_nobody_else() {
        let world = World::new(&["RBAC"]);
        let mut right = world.right(jane());
        assert!(!world.has_lapsed(&mut right));
        assert!(world.authorizer.review().is_empty());
        assert_eq!(world.wakes(), 0);
        world.unbind();
        assert!(world.authorizer.review().is_empty());
        assert_eq!(world.wakes(), 1);
        assert!(world.has_lapsed(&mut right));
    }

    #[test]
    fn other_modes_are_a_change_as_well() {
        let world = World::new(&["AlwaysAllow"]);
        let mut right = world.right(UserInfo::new("joe", &[]));
        assert!(!world.has_lapsed(&mut right));
        world.authorizer.set_modes(vec![Mode::Rbac], []);
        assert!(world.has_lapsed(&mut right));
    }

    #[test]
    fn what_python_decides_is_told_by_the_review_and_goes_on_until_then() {
        let world = World::new(&["Node", "RBAC", "Webhook"]);
        let mut right = world.right(UserInfo::new("system:node:a", &["system:nodes"]));
        assert!(!world.has_lapsed(&mut right));
        let open = world.authorizer.review();
        assert_eq!(open.len(), 1);
        open[0].lapse();
        assert_eq!(world.wakes(), 1);
        assert!(world.authorizer.review().is_empty());
        assert!(world.has_lapsed(&mut right));
    }

    #[test]
    fn what_a_webhook_said_counts_until_it_is_to_be_asked_again() {
        let world = World::new(&["Webhook"]);
        let mut right = world.right(jane());
        let said = |opinion| {
            let (held, all) = (&right.held, Selectors::default());
            world.authorizer.remember(
                0,
                &held.user,
                &attributes_of(&held.info),
                &all,
                opinion,
                f64::INFINITY,
            );
        };
        said(Opinion::Allow(String::new()));
        assert!(world.authorizer.review().is_empty());
        said(Opinion::Deny(String::new()));
        assert!(world.authorizer.review().is_empty());
        assert!(world.has_lapsed(&mut right));
    }

    #[test]
    fn what_has_ended_is_not_reviewed() {
        let world = World::new(&["Webhook"]);
        let right = world.right(jane());
        assert_eq!(world.authorizer.review().len(), 1);
        drop(right);
        assert!(world.authorizer.review().is_empty());
    }
}
