//! `UserInfo`, `Authenticator` and `Authorizer`.

use std::sync::Arc;

use kubecore_core::authn::UserInfo as CoreUser;
use kubecore_core::rbac::{self, Attributes, Decision, PolicyRule};
use kubecore_front::authn::{
    Authenticator as CoreAuthenticator, ClientCa, Outcome, PublicKey, ServiceAccountIssuer,
};
use kubecore_front::authz::{Authorizer as CoreAuthorizer, Mode, Verdict};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping, PyTuple};

/// Who asks.
#[pyclass(frozen, module = "kubecore._native")]
pub struct UserInfo(pub Arc<CoreUser>);

#[pymethods]
impl UserInfo {
    #[new]
    #[pyo3(signature = (username, uid=String::new(), groups=Vec::new(), extra=None))]
    fn new(
        username: String,
        uid: String,
        groups: Vec<String>,
        extra: Option<&Bound<'_, PyMapping>>,
    ) -> PyResult<Self> {
        let mut pairs = Vec::new();
        if let Some(extra) = extra {
            for item in extra.items()? {
                pairs.push(item.extract::<(String, Vec<String>)>()?);
            }
        }
        Ok(Self(Arc::new(CoreUser { username, uid, groups, extra: pairs })))
    }

    #[getter]
    fn username(&self) -> &str {
        &self.0.username
    }

    #[getter]
    fn uid(&self) -> &str {
        &self.0.uid
    }

    #[getter]
    fn groups<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.0.groups)
    }

    #[getter]
    fn extra<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let extra = PyDict::new(py);
        for (key, values) in &self.0.extra {
            extra.set_item(key, PyTuple::new(py, values)?)?;
        }
        Ok(extra)
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    fn __hash__(&self) -> u64 {
        use std::hash::{Hash, Hasher};
        let mut hasher = rustc_hash::FxHasher::default();
        (&self.0.username, &self.0.groups).hash(&mut hasher);
        hasher.finish()
    }

    fn __repr__(&self) -> String {
        format!("UserInfo(username={:?}, groups={:?})", self.0.username, self.0.groups)
    }
}

fn user_of(outcome: Outcome) -> Option<UserInfo> {
    match outcome {
        Outcome::User(user) => Some(UserInfo(user)),
        Outcome::Rejected | Outcome::Unknown => None,
    }
}

fn value_error(error: impl ToString) -> PyErr {
    PyValueError::new_err(error.to_string())
}

#[pyclass(frozen, module = "kubecore._native")]
pub struct Authenticator(pub Arc<CoreAuthenticator>);

#[pymethods]
impl Authenticator {
    fn set_client_ca(&self, pem: &[u8]) -> PyResult<()> {
        self.0.set_client_ca(ClientCa::from_pem(pem).map_err(value_error)?);
        Ok(())
    }

    fn set_service_account_keys(
        &self,
        public_pems: Vec<Vec<u8>>,
        issuer: String,
        audiences: Vec<String>,
    ) -> PyResult<()> {
        let keys: Result<Vec<_>, _> = public_pems.iter().map(|pem| PublicKey::from_pem(pem)).collect();
        let issuer = ServiceAccountIssuer::new(keys.map_err(value_error)?, issuer, audiences);
        self.0.set_service_account_issuer(issuer);
        Ok(())
    }

    fn put_token(&self, token: &str, user: &UserInfo, expires_unix: f64) {
        self.0.put_token(token, CoreUser::clone(&user.0), expires_unix);
    }

    fn forget_token(&self, token: &str) {
        self.0.forget_token(token);
    }

    fn set_delegate(&self, delegate: bool) {
        self.0.set_delegate(delegate);
    }

    fn set_anonymous(&self, enabled: bool) {
        self.0.set_anonymous(enabled);
    }

    #[pyo3(signature = (*, token, certificate_der))]
    fn authenticate(&self, token: Option<&str>, certificate_der: Option<&[u8]>) -> Option<UserInfo> {
        user_of(self.0.authenticate_parts(token, certificate_der))
    }

    fn review_token(&self, token: &str, audiences: Vec<String>) -> Option<(UserInfo, Vec<String>)> {
        self.0.review(token, &audiences).map(|(user, fitting)| (UserInfo(user), fitting))
    }
}

#[pyclass(frozen, module = "kubecore._native")]
pub struct Authorizer(pub Arc<CoreAuthorizer>);

#[pymethods]
impl Authorizer {
    fn set_modes(&self, modes: Vec<String>) -> PyResult<()> {
        let named = modes.iter().map(|name| {
            Mode::named(name).ok_or_else(|| value_error(format!("no authorization mode {name:?}")))
        });
        self.0.set_modes(named.collect::<PyResult<_>>()?);
        Ok(())
    }

    #[allow(clippy::too_many_arguments)] // the attributes of a request, as Kubernetes names them
    #[pyo3(signature = (user, verb, group="", resource="", subresource="", namespace="", name="", path=""))]
    fn authorize(
        &self,
        user: &UserInfo,
        verb: &str,
        group: &str,
        resource: &str,
        subresource: &str,
        namespace: &str,
        name: &str,
        path: &str,
    ) -> (Option<bool>, String) {
        let attributes = attributes(verb, group, resource, subresource, namespace, name, path);
        match self.0.explain(&user.0, &attributes) {
            (Verdict::Allow, reason) => (Some(true), reason),
            (Verdict::Deny(_), reason) => (Some(false), reason),
            (Verdict::Python, reason) => (None, reason),
        }
    }

    #[allow(clippy::too_many_arguments)] // as above
    #[pyo3(signature = (user, verb, group="", resource="", subresource="", namespace="", name="", path=""))]
    fn rbac_allows(
        &self,
        user: &UserInfo,
        verb: &str,
        group: &str,
        resource: &str,
        subresource: &str,
        namespace: &str,
        name: &str,
        path: &str,
    ) -> (bool, String) {
        let attributes = attributes(verb, group, resource, subresource, namespace, name, path);
        let (decision, reason) = self.0.policy().current().explain(&user.0, &attributes);
        (decision == Decision::Allowed, reason)
    }

    fn rules_for(&self, user: &UserInfo, namespace: &str) -> PyResult<(Vec<u8>, Vec<String>)> {
        let (rules, errors) = rbac::rules_for(&self.0.policy().current(), &user.0, namespace);
        Ok((serde_json::to_vec(&rules).map_err(value_error)?, errors))
    }

    fn covers(&self, user: &UserInfo, namespace: &str, rules: &[u8]) -> PyResult<Vec<String>> {
        let wanted: Vec<PolicyRule> = serde_json::from_slice(rules).map_err(value_error)?;
        let (held, _) = rbac::rules_for(&self.0.policy().current(), &user.0, namespace);
        Ok(rbac::covers(&held, &wanted).iter().map(PolicyRule::compact).collect())
    }
}

fn attributes<'a>(
    verb: &'a str,
    group: &'a str,
    resource: &'a str,
    subresource: &'a str,
    namespace: &'a str,
    name: &'a str,
    path: &'a str,
) -> Attributes<'a> {
    let is_resource = path.is_empty();
    Attributes { verb, group, version: "", resource, subresource, namespace, name, path, is_resource }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<UserInfo>()?;
    module.add_class::<Authenticator>()?;
    module.add_class::<Authorizer>()
}
