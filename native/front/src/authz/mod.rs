//! The authorization modes in turn; what is decided here never waits for Python.

mod abac;
mod decided;
mod held;
mod kept;
mod opinions;

use std::sync::Arc;

use arc_swap::ArcSwap;
use kubecore_core::authn::{SYSTEM_MASTERS, UserInfo};
use kubecore_core::clock::Clock;
use kubecore_core::edition::Edition;
use kubecore_core::rbac::{Attributes, Decision, Policy, PolicyStore};

pub use abac::Policy as AbacPolicy;
use decided::Decided;
pub use held::{Held, HeldRight};
pub use kept::Judgement;
pub use opinions::{Opinion, Selectors};
use opinions::{Opinions, Question};

/// An authorization mode as `--authorization-mode` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    AlwaysAllow,
    AlwaysDeny,
    Rbac,
    /// Decided by Python, for users of the group `system:nodes` only.
    Node,
    Abac,
    /// Asked by Python, whose opinion is remembered here; the webhook's number.
    Webhook(usize),
}

impl Mode {
    /// Modes by their names, webhooks numbered in their order. Fails with the name of a mode that does not exist.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Vec<Self>, &'a str> {
        let mut webhooks = 0;
        let modes = names.into_iter().map(|name| match name {
            "AlwaysAllow" => Ok(Self::AlwaysAllow),
            "AlwaysDeny" => Ok(Self::AlwaysDeny),
            "RBAC" => Ok(Self::Rbac),
            "Node" => Ok(Self::Node),
            "ABAC" => Ok(Self::Abac),
            "Webhook" => {
                webhooks += 1;
                Ok(Self::Webhook(webhooks - 1))
            }
            unknown => Err(unknown),
        });
        modes.collect()
    }
}

/// What the modes say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    /// A mode says no.
    Deny(String),
    /// No mode says yes, which comes to the same.
    NoOpinion(String),
    /// A mode that Python runs must be asked.
    Python,
}

impl Verdict {
    pub fn refuses(&self) -> bool {
        matches!(self, Self::Deny(_) | Self::NoOpinion(_))
    }
}

/// What decisions come from, as far as it is known here, at one time.
pub struct Seen {
    policy: Arc<Policy>,
    settings: u64,
}

pub struct Authorizer {
    modes: ArcSwap<Vec<Mode>>,
    /// Of the modes and the policies of the file.
    settings: Edition,
    policy: Arc<PolicyStore>,
    abac: ArcSwap<Vec<AbacPolicy>>,
    opinions: Opinions,
    pub decided: Decided,
    rights: held::Register,
    clock: Clock,
}

impl Authorizer {
    pub fn new(policy: Arc<PolicyStore>, clock: Clock) -> Self {
        Self {
            modes: ArcSwap::from_pointee(vec![Mode::Rbac]),
            settings: Edition::default(),
            policy,
            abac: ArcSwap::default(),
            opinions: Opinions::default(),
            decided: Decided::default(),
            rights: held::Register::default(),
            clock,
        }
    }

    pub fn policy(&self) -> &Arc<PolicyStore> {
        &self.policy
    }

    /// What webhooks have said is void from now on. Metrics know the modes by these types and names.
    pub fn set_modes(&self, modes: Vec<Mode>, names: impl IntoIterator<Item = (String, String)>) {
        self.decided.begin(names);
        self.modes.store(Arc::new(modes));
        self.opinions.clear();
        self.settings.renew();
    }

    pub fn set_abac(&self, policies: Vec<AbacPolicy>) {
        self.abac.store(Arc::new(policies));
        self.settings.renew();
    }

    pub fn seen(&self) -> Seen {
        // The number first: who sets others meanwhile is then seen to have done so.
        let settings = self.settings.number();
        Seen { policy: Arc::clone(&self.policy.current()), settings }
    }

    /// Whether nothing has become another since.
    pub fn is_current(&self, seen: &Seen) -> bool {
        self.settings.number() == seen.settings && Arc::ptr_eq(&self.policy.current(), &seen.policy)
    }

    /// Whether a policy of the file allows it.
    pub fn abac_allows(&self, user: &UserInfo, attributes: &Attributes<'_>) -> bool {
        self.abac.load().iter().any(|policy| policy.allows(user, attributes))
    }

    /// Remembers what a webhook said until then, in Unix seconds.
    pub fn remember(
        &self,
        webhook: usize,
        user: &UserInfo,
        attributes: &Attributes<'_>,
        selectors: &Selectors,
        opinion: Opinion,
        until: f64,
    ) {
        if let Some(question) = Question::of(webhook, user, attributes, selectors) {
            self.opinions.put(question, opinion, until, self.now());
        }
    }

    pub fn opinion(
        &self,
        webhook: usize,
        user: &UserInfo,
        attributes: &Attributes<'_>,
        selectors: &Selectors,
    ) -> Option<Opinion> {
        self.opinions.get(&Question::of(webhook, user, attributes, selectors)?, self.now())
    }

    /// The first mode that allows or denies decides. An allow is one even if Python has a mode before it to ask, unless
    /// that is a webhook, which can deny. `selectors` are looked at only for webhooks. `why` hears RBAC's reason.
    pub fn decide(
        &self,
        user: &UserInfo,
        attributes: &Attributes<'_>,
        selectors: impl FnOnce() -> Selectors,
        why: Option<&mut String>,
    ) -> Verdict {
        self.in_turn(user, attributes, selectors, why).0
    }

    /// The same with the number of the mode that has decided, if one has: whom `decided` is to be told of.
    pub fn in_turn(
        &self,
        user: &UserInfo,
        attributes: &Attributes<'_>,
        selectors: impl FnOnce() -> Selectors,
        mut why: Option<&mut String>,
    ) -> (Verdict, Option<usize>) {
        if user.in_group(SYSTEM_MASTERS) {
            return (Verdict::Allow, None);
        }
        let (mut asks_python, mut may_be_denied) = (false, false);
        let (mut selectors, mut selected) = (Some(selectors), None);
        let mut reasons = Vec::new();
        for (place, mode) in self.modes.load().iter().enumerate() {
            let allowed = match mode {
                Mode::AlwaysAllow => true,
                Mode::AlwaysDeny => {
                    reasons.push("Everything is forbidden.".to_owned());
                    false
                }
                Mode::Rbac => self.rbac_allows(user, attributes, why.as_deref_mut()),
                Mode::Abac => self.abac_allows(user, attributes),
                Mode::Node => {
                    asks_python |= user.in_group("system:nodes");
                    false
                }
                Mode::Webhook(number) => {
                    let selected =
                        selected.get_or_insert_with(|| selectors.take().map(|of| of()).unwrap_or_default());
                    match self.opinion(*number, user, attributes, selected) {
                        Some(Opinion::Allow(_)) => true,
                        Some(Opinion::Deny(reason)) if !asks_python => {
                            return (Verdict::Deny(reason), Some(place));
                        }
                        Some(Opinion::Deny(_)) => return (Verdict::Python, None),
                        Some(Opinion::None(reason)) => {
                            reasons.push(reason);
                            false
                        }
                        None => {
                            (asks_python, may_be_denied) = (true, true);
                            false
                        }
                    }
                }
            };
            if allowed {
                return if may_be_denied { (Verdict::Python, None) } else { (Verdict::Allow, Some(place)) };
            }
            match mode {
                Mode::Rbac => reasons.push(self.policy.current().explain(user, attributes).1),
                Mode::Abac => reasons.push("No policy matched.".to_owned()),
                _ => {}
            }
        }
        if asks_python {
            return (Verdict::Python, None);
        }
        reasons.retain(|reason| !reason.is_empty());
        (Verdict::NoOpinion(reasons.join("\n")), None)
    }

    fn rbac_allows(&self, user: &UserInfo, attributes: &Attributes<'_>, why: Option<&mut String>) -> bool {
        let policy = self.policy.current();
        let Some(why) = why else { return policy.decide(user, attributes) == Decision::Allowed };
        let (decision, reason) = policy.explain(user, attributes);
        *why = reason;
        decision == Decision::Allowed
    }

    fn now(&self) -> f64 {
        self.clock.unix().as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTRIBUTES: Attributes<'static> = Attributes {
        verb: "get",
        path: "/x",
        group: "",
        version: "",
        resource: "",
        subresource: "",
        namespace: "",
        name: "",
        is_resource: false,
    };

    fn authorizer(modes: &[&str]) -> Authorizer {
        let authorizer = Authorizer::new(Arc::new(PolicyStore::new()), Clock::system());
        authorizer.set_modes(Mode::named(modes.iter().copied()).unwrap(), []);
        authorizer
    }

    fn decide(modes: &[&str], user: &UserInfo) -> Verdict {
        authorizer(modes).decide(user, &ATTRIBUTES, Selectors::default, None)
    }

    #[test]
    fn masters_pass_in_every_mode() {
        let master = UserInfo::new("root", &[SYSTEM_MASTERS]);
        for mode in ["RBAC", "AlwaysDeny", "Node", "Webhook", "ABAC"] {
            assert_eq!(decide(&[mode], &master), Verdict::Allow);
        }
    }

    #[test]
    fn modes_of_python_are_asked_when_nobody_here_allows() {
        let node = UserInfo::new("system:node:a", &["system:nodes"]);
        let jane = UserInfo::new("jane", &[]);
        assert_eq!(decide(&["Node", "RBAC"], &node), Verdict::Python);
        assert_eq!(decide(&["Node", "RBAC"], &jane), Verdict::NoOpinion(String::new()));
        assert_eq!(decide(&["RBAC", "Webhook"], &jane), Verdict::Python);
        assert_eq!(decide(&["AlwaysAllow"], &jane), Verdict::Allow);
        assert_eq!(decide(&["AlwaysDeny"], &jane), Verdict::NoOpinion("Everything is forbidden.".into()));
        assert_eq!(decide(&["ABAC"], &jane), Verdict::NoOpinion("No policy matched.".into()));
        assert_eq!(Mode::named(["RBAC", "Magic"]), Err("Magic"));
    }

    #[test]
    fn a_webhook_that_might_deny_is_asked_before_anybody_allows() {
        let jane = UserInfo::new("jane", &[]);
        let two = authorizer(&["Webhook", "AlwaysAllow"]);
        let decided = || two.decide(&jane, &ATTRIBUTES, Selectors::default, None);
        assert_eq!(decided(), Verdict::Python);
        let said =
            |opinion| two.remember(0, &jane, &ATTRIBUTES, &Selectors::default(), opinion, f64::INFINITY);
        said(Opinion::None("who knows".into()));
        assert_eq!(decided(), Verdict::Allow);
        said(Opinion::Deny("no".into()));
        assert_eq!(decided(), Verdict::Deny("no".into()));
        two.set_modes(Mode::named(["Webhook", "AlwaysDeny"]).unwrap(), []);
        assert_eq!(decided(), Verdict::Python);
    }

    #[test]
    fn what_is_remembered_of_a_webhook_is_for_what_was_selected() {
        let jane = UserInfo::new("jane", &[]);
        let one = authorizer(&["Webhook"]);
        let pods = Attributes { verb: "list", resource: "pods", is_resource: true, ..Attributes::default() };
        let of_node = |name: &str| Selectors { field: format!("spec.nodeName={name}"), label: String::new() };
        one.remember(0, &jane, &pods, &of_node("a"), Opinion::Allow(String::new()), f64::INFINITY);
        assert_eq!(one.decide(&jane, &pods, || of_node("a"), None), Verdict::Allow);
        assert_eq!(one.decide(&jane, &pods, || of_node("b"), None), Verdict::Python);
    }
}
