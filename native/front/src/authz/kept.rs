//! What was allowed a moment ago is allowed again, as long as roles, bindings and settings are the same: who asks for one
//! thing again and again is judged once. A no is never kept, nor what a webhook has a say in, whose opinions lapse.

use std::cell::RefCell;
use std::sync::Arc;

use kubecore_core::authn::UserInfo;

use super::decided::Counts;
use super::{Authorizer, Mode, Selectors, Verdict};
use crate::exchange::attributes_of;
use crate::recent::RecentlyAsked;
use crate::request_info::RequestInfo;

/// What the modes say of a request.
pub struct Judgement {
    pub verdict: Verdict,
    /// The number of the mode that has decided, if one has.
    pub by: Option<usize>,
    /// RBAC's reason for its yes, where it was asked for and gave one.
    pub why: Option<Arc<str>>,
}

/// A yes that holds as long as what it comes from stays.
struct Allowed {
    /// The editions of the policy and of the settings.
    policy: u64,
    settings: u64,
    by: usize,
    counts: Option<Arc<Counts>>,
    why: Option<Arc<str>>,
}

thread_local! {
    static RECENT: RefCell<RecentlyAsked<Allowed>> = const { RefCell::new(RecentlyAsked::new()) };
}

impl Authorizer {
    /// As `in_turn`, of a request; `decided` is told of it. Of one that is asked again and again a yes is kept, until
    /// roles, bindings or settings are others.
    pub fn judge(
        &self,
        user: &Arc<UserInfo>,
        info: &Arc<RequestInfo>,
        selectors: impl FnOnce() -> Selectors,
        wants_why: bool,
    ) -> Judgement {
        // Looked at before anything is decided: what is set meanwhile makes void what is kept here.
        let settings = self.settings.number();
        let policy = self.policy.edition().number();
        let kept = RECENT.with_borrow(|recent| {
            let kept = recent.get(user, info).filter(|kept| {
                kept.settings == settings && kept.policy == policy && (kept.why.is_some() || !wants_why)
            })?;
            if let Some(counts) = &kept.counts {
                counts.count(true);
            }
            let why = if wants_why { kept.why.clone() } else { None };
            Some(Judgement { verdict: Verdict::Allow, by: Some(kept.by), why })
        });
        if let Some(kept) = kept {
            return kept;
        }
        let mut why = wants_why.then(String::new);
        let (verdict, by) = self.in_turn(user, &attributes_of(info), selectors, why.as_mut());
        self.decided.count(by, verdict == Verdict::Allow);
        let why: Option<Arc<str>> = why.map(Into::into);
        if let Some(by) = by.filter(|by| verdict == Verdict::Allow && self.is_lasting(*by)) {
            let kept = || Allowed { policy, settings, by, counts: self.decided.of(by), why: why.clone() };
            RECENT.with_borrow_mut(|recent| recent.put(user, info, kept));
        }
        Judgement { verdict, by, why }
    }

    /// Whether what the mode of that number says depends on no webhook, whose opinions lapse.
    fn is_lasting(&self, by: usize) -> bool {
        let modes = self.modes.load();
        modes.get(..=by).is_some_and(|asked| !asked.iter().any(|mode| matches!(mode, Mode::Webhook(_))))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Method;
    use kubecore_core::clock::Clock;
    use kubecore_core::rbac::{Change, PolicyKind, PolicyStore};

    use super::*;
    use crate::authz::{AbacPolicy, Opinion};

    const WHY: &str = r#"RBAC: allowed by ClusterRoleBinding "b" of ClusterRole "r" to User "jane""#;

    const ABAC: &str = r#"{"user":"jane","namespace":"*","resource":"*","apiGroup":"*"}"#;

    struct World {
        policy: Arc<PolicyStore>,
        authorizer: Authorizer,
        jane: Arc<UserInfo>,
        info: Arc<RequestInfo>,
    }

    impl World {
        fn new(modes: &[&str]) -> Self {
            let policy = Arc::new(PolicyStore::new());
            let authorizer = Authorizer::new(policy.clone(), Clock::starting_at(Duration::ZERO));
            authorizer.set_modes(Mode::named(modes.iter().copied()).unwrap(), []);
            let info = RequestInfo::parse(&Method::GET, "/api/v1/namespaces/a/pods/p", "").unwrap();
            let world =
                Self { policy, authorizer, jane: UserInfo::new("jane", &[]).into(), info: info.into() };
            world.put(
                PolicyKind::ClusterRole,
                "r",
                r#"{"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get"]}]}"#,
            );
            world
        }

        fn put(&self, kind: PolicyKind, name: &str, object: &str) {
            let object = (!object.is_empty()).then_some(object.as_bytes());
            self.policy.apply([Change { kind, namespace: "", name, object }]);
        }

        fn bind(&self) {
            let subjects = r#"[{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"jane"}]"#;
            let binding =
                format!(r#"{{"subjects":{subjects},"roleRef":{{"kind":"ClusterRole","name":"r"}}}}"#);
            self.put(PolicyKind::ClusterRoleBinding, "b", &binding);
        }

        fn unbind(&self) {
            self.put(PolicyKind::ClusterRoleBinding, "b", "");
        }

        fn asks(&self, wants_why: bool) -> Judgement {
            self.authorizer.judge(&self.jane, &self.info, Selectors::default, wants_why)
        }

        /// Whether a yes is kept for what is asked.
        fn is_kept(&self) -> bool {
            RECENT.with_borrow(|recent| recent.get(&self.jane, &self.info).is_some())
        }
    }

    fn verdicts(world: &World) -> Vec<Verdict> {
        (0..4).map(|_| world.asks(false).verdict).collect()
    }

    #[test]
    fn a_yes_is_kept_until_roles_or_bindings_are_others() {
        let world = World::new(&["RBAC"]);
        assert!(verdicts(&world).iter().all(Verdict::refuses));
        assert!(!world.is_kept(), "a no is asked for anew");
        for _ in 0..3 {
            world.bind();
            assert_eq!(verdicts(&world), [const { Verdict::Allow }; 4]);
            assert!(world.is_kept());
            world.unbind();
            assert!(verdicts(&world).iter().all(Verdict::refuses));
        }
    }

    #[test]
    fn a_yes_that_was_kept_counts_like_another() {
        let world = World::new(&["RBAC"]);
        let named = || [("RBAC".to_owned(), "rbac".to_owned())];
        world.authorizer.set_modes(vec![Mode::Rbac], named());
        world.bind();
        verdicts(&world);
        assert!(world.is_kept());
        world.authorizer.set_modes(vec![Mode::Rbac], named());
        verdicts(&world);
        let line = r#"{decision="allowed",name="rbac",type="RBAC"} 8"#;
        let told = world.authorizer.decided.render();
        assert!(told.contains(line), "{told}");
    }

    #[test]
    fn its_reason_is_told_to_who_wants_it() {
        let world = World::new(&["RBAC"]);
        world.bind();
        for wants_why in [false, false, true, true, false, true] {
            let told = world.asks(wants_why);
            assert_eq!((told.verdict, told.by), (Verdict::Allow, Some(0)));
            assert_eq!(told.why.as_deref(), wants_why.then_some(WHY));
        }
    }

    #[test]
    fn it_is_one_users_for_one_thing_at_one_server() {
        let (world, other) = (World::new(&["RBAC"]), World::new(&["RBAC"]));
        world.bind();
        assert_eq!(verdicts(&world), [const { Verdict::Allow }; 4]);
        let joe = Arc::new(UserInfo::new("joe", &[]));
        let secret = RequestInfo::parse(&Method::GET, "/api/v1/namespaces/a/secrets/p", "").unwrap().into();
        let asks = |authorizer: &Authorizer, user, info| {
            authorizer.judge(user, info, Selectors::default, false).verdict.refuses()
        };
        assert!(asks(&world.authorizer, &joe, &world.info));
        assert!(asks(&world.authorizer, &world.jane, &secret));
        assert!(asks(&other.authorizer, &world.jane, &world.info));
    }

    #[test]
    fn other_settings_are_a_change_as_well() {
        let world = World::new(&["ABAC"]);
        let policies = || serde_json::from_str::<AbacPolicy>(ABAC).map(|policy| vec![policy]).unwrap();
        world.authorizer.set_abac(policies());
        assert_eq!(verdicts(&world), [const { Verdict::Allow }; 4]);
        world.authorizer.set_abac(Vec::new());
        assert!(verdicts(&world).iter().all(Verdict::refuses));
        world.authorizer.set_abac(policies());
        assert_eq!(verdicts(&world), [const { Verdict::Allow }; 4]);
        world.authorizer.set_modes(vec![Mode::AlwaysDeny], []);
        assert!(verdicts(&world).iter().all(Verdict::refuses));
    }

    #[test]
    fn what_a_webhook_has_a_say_in_is_not_kept() {
        let world = World::new(&["Webhook", "RBAC"]);
        world.bind();
        let (attributes, nothing) = (attributes_of(&world.info), Selectors::default());
        let says =
            |opinion, until| world.authorizer.remember(0, &world.jane, &attributes, &nothing, opinion, until);
        says(Opinion::None(String::new()), f64::INFINITY);
        assert_eq!(verdicts(&world), [const { Verdict::Allow }; 4]);
        assert!(!world.is_kept());
        says(Opinion::Deny("no".into()), f64::INFINITY);
        assert_eq!(world.asks(false).verdict, Verdict::Deny("no".into()));
        let last = World::new(&["RBAC", "Webhook"]);
        last.bind();
        assert_eq!(verdicts(&last), [const { Verdict::Allow }; 4]);
        assert!(last.is_kept(), "nobody asks the webhook");
    }
}
