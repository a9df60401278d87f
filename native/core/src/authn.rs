//! Who asks: the outcome of authentication, as `user.Info` in Kubernetes.

/// The group of every user that presented accepted credentials.
pub const ALL_AUTHENTICATED: &str = "system:authenticated";
/// The group of requests without credentials.
pub const ALL_UNAUTHENTICATED: &str = "system:unauthenticated";
/// The group that passes every authorization.
pub const SYSTEM_MASTERS: &str = "system:masters";
/// The user of requests without credentials.
pub const ANONYMOUS: &str = "system:anonymous";
/// The user of the insecure port.
pub const UNSECURED: &str = "system:unsecured";

/// A user. Extra keys keep the order in which they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    pub username: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: Vec<(String, Vec<String>)>,
}

impl UserInfo {
    /// A user with groups and nothing else.
    pub fn new(username: impl Into<String>, groups: &[&str]) -> Self {
        Self {
            username: username.into(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..Self::default()
        }
    }

    /// The user of requests without credentials.
    pub fn anonymous() -> Self {
        Self::new(ANONYMOUS, &[ALL_UNAUTHENTICATED])
    }

    /// Whoever asks is known to nobody (apiserver `pkg/endpoints/filters`, isAnonymousUser).
    pub fn is_anonymous(&self) -> bool {
        self.username == ANONYMOUS || self.in_group(ALL_UNAUTHENTICATED)
    }

    /// The user of the insecure port: may do everything.
    pub fn unsecured() -> Self {
        Self::new(UNSECURED, &[SYSTEM_MASTERS, ALL_AUTHENTICATED])
    }

    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// Adds `system:authenticated` unless it is there (or the user is expressly unauthenticated).
    pub fn with_authenticated_group(mut self) -> Self {
        if !self.in_group(ALL_AUTHENTICATED) && !self.in_group(ALL_UNAUTHENTICATED) {
            self.groups.push(ALL_AUTHENTICATED.to_owned());
        }
        self
    }
}

/// The username of a service account.
pub fn service_account_username(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// Namespace and name of a service account's username.
pub fn split_service_account(username: &str) -> Option<(&str, &str)> {
    username.strip_prefix("system:serviceaccount:")?.split_once(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authenticated_group_is_added_once() {
        let user = UserInfo::new("jane", &["dev"]).with_authenticated_group().with_authenticated_group();
        assert_eq!(user.groups, ["dev", ALL_AUTHENTICATED]);
        assert_eq!(UserInfo::anonymous().with_authenticated_group(), UserInfo::anonymous());
    }

    #[test]
    fn a_service_account_username_splits_again() {
        assert_eq!(split_service_account(&service_account_username("ns", "sa")), Some(("ns", "sa")));
        assert_eq!(split_service_account("jane"), None);
    }
}
