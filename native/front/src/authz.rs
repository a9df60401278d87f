//! The authorization modes in turn; what is decided here never waits for Python.

use std::sync::Arc;

use arc_swap::ArcSwap;
use kubecore_core::authn::{SYSTEM_MASTERS, UserInfo};
use kubecore_core::rbac::{Attributes, Decision, PolicyStore};

/// An authorization mode as `--authorization-mode` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    AlwaysAllow,
    AlwaysDeny,
    Rbac,
    /// Decided by Python, for users of the group `system:nodes` only.
    Node,
    /// Decided by Python (ABAC, Webhook).
    Elsewhere,
}

impl Mode {
    /// None for a mode that does not exist.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "AlwaysAllow" => Some(Self::AlwaysAllow),
            "AlwaysDeny" => Some(Self::AlwaysDeny),
            "RBAC" => Some(Self::Rbac),
            "Node" => Some(Self::Node),
            "ABAC" | "Webhook" => Some(Self::Elsewhere),
            _ => None,
        }
    }
}

/// What the modes say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    Deny(String),
    /// A mode that Python runs must be asked.
    Python,
}

pub struct Authorizer {
    modes: ArcSwap<Vec<Mode>>,
    policy: Arc<PolicyStore>,
}

impl Authorizer {
    pub fn new(policy: Arc<PolicyStore>) -> Self {
        Self { modes: ArcSwap::from_pointee(vec![Mode::Rbac]), policy }
    }

    pub fn policy(&self) -> &Arc<PolicyStore> {
        &self.policy
    }

    pub fn set_modes(&self, modes: Vec<Mode>) {
        self.modes.store(Arc::new(modes));
    }

    /// Allow by the first mode that allows. Modes of Python that come before cannot change an RBAC allow, as Node and
    /// ABAC never deny; a webhook can, so everything goes to Python when one stands before RBAC.
    pub fn decide(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Verdict {
        if user.in_group(SYSTEM_MASTERS) {
            return Verdict::Allow;
        }
        let mut ask_python = false;
        let mut rbac = false;
        for mode in self.modes.load().iter() {
            match mode {
                Mode::AlwaysAllow if !ask_python => return Verdict::Allow,
                Mode::AlwaysAllow => return Verdict::Python,
                Mode::Elsewhere => ask_python = true,
                Mode::Node => ask_python |= user.in_group("system:nodes"),
                Mode::AlwaysDeny => {}
                Mode::Rbac => {
                    rbac = true;
                    if self.policy.current().decide(user, attributes) == Decision::Allowed {
                        return Verdict::Allow;
                    }
                }
            }
        }
        if ask_python {
            return Verdict::Python;
        }
        Verdict::Deny(if rbac {
            self.policy.current().explain(user, attributes).1
        } else {
            "Everything is forbidden.".to_owned()
        })
    }

    /// The verdict with the reason of an allow, which the hot path does not need.
    pub fn explain(&self, user: &UserInfo, attributes: &Attributes<'_>) -> (Verdict, String) {
        match self.decide(user, attributes) {
            Verdict::Allow if user.in_group(SYSTEM_MASTERS) => (Verdict::Allow, String::new()),
            Verdict::Allow => (Verdict::Allow, self.policy.current().explain(user, attributes).1),
            Verdict::Deny(reason) => (Verdict::Deny(reason.clone()), reason),
            Verdict::Python => (Verdict::Python, String::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(modes: &[&str], user: &UserInfo) -> Verdict {
        let authorizer = Authorizer::new(Arc::new(PolicyStore::new()));
        authorizer.set_modes(modes.iter().filter_map(|mode| Mode::named(mode)).collect());
        authorizer.decide(user, &Attributes { verb: "get", path: "/x", ..Attributes::default() })
    }

    #[test]
    fn masters_pass_in_every_mode() {
        let master = UserInfo::new("root", &[SYSTEM_MASTERS]);
        for mode in ["RBAC", "AlwaysDeny", "Node", "Webhook"] {
            assert_eq!(decide(&[mode], &master), Verdict::Allow);
        }
    }

    #[test]
    fn modes_of_python_are_asked_when_nobody_here_allows() {
        let node = UserInfo::new("system:node:a", &["system:nodes"]);
        let jane = UserInfo::new("jane", &[]);
        assert_eq!(decide(&["Node", "RBAC"], &node), Verdict::Python);
        assert_eq!(decide(&["Node", "RBAC"], &jane), Verdict::Deny(String::new()));
        assert_eq!(decide(&["RBAC", "Webhook"], &jane), Verdict::Python);
        assert_eq!(decide(&["AlwaysAllow"], &jane), Verdict::Allow);
        assert!(matches!(decide(&["AlwaysDeny"], &jane), Verdict::Deny(_)));
    }
}
