//! `UserInfo`, `Authenticator` and `Authorizer`.

use std::sync::Arc;

use kubecore_core::authn::UserInfo as CoreUser;
use kubecore_core::rbac::{self, Attributes as CoreAttributes, Decision, PolicyRule};
use kubecore_front::authn::{
    Anonymous, Authenticator as CoreAuthenticator, ClientCa, FrontProxy, PublicKey, Remarks,
    ServiceAccountIssuer,
};
use kubecore_front::authz::{
    AbacPolicy, Authorizer as CoreAuthorizer, Held, Mode, Opinion, Seen, Selectors, Verdict,
};
use kubecore_front::exchange::attributes_of;
use kubecore_front::http::HeaderName;
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
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

fn value_error(error: impl ToString) -> PyErr {
    PyValueError::new_err(error.to_string())
}

#[pyclass(frozen, module = "kubecore._native")]
pub struct Authenticator(pub Arc<CoreAuthenticator>);

fn header_names(names: &[String]) -> PyResult<Vec<HeaderName>> {
    names.iter().map(|name| HeaderName::try_from(name.trim()).map_err(value_error)).collect()
}

#[pymethods]
impl Authenticator {
    fn set_client_ca(&self, pem: &[u8]) -> PyResult<()> {
        self.0.set_client_ca(ClientCa::from_pem(pem).map_err(value_error)?);
        Ok(())
    }

    #[pyo3(signature = (ca_pem, *, names, user_headers, uid_headers, group_headers, extra_prefixes))]
    fn set_front_proxy(
        &self,
        ca_pem: &[u8],
        names: Vec<String>,
        user_headers: Vec<String>,
        uid_headers: Vec<String>,
        group_headers: Vec<String>,
        extra_prefixes: Vec<String>,
    ) -> PyResult<()> {
        self.0.set_front_proxy(Some(FrontProxy {
            ca: ClientCa::from_pem(ca_pem).map_err(value_error)?,
            names,
            user_headers: header_names(&user_headers)?,
            uid_headers: header_names(&uid_headers)?,
            group_headers: header_names(&group_headers)?,
            extra_prefixes: extra_prefixes.iter().map(|prefix| prefix.trim().to_lowercase()).collect(),
        }));
        Ok(())
    }

    fn set_service_account_keys(
        &self,
        public_pems: Vec<Vec<u8>>,
        issuers: Vec<String>,
        audiences: Vec<String>,
    ) -> PyResult<()> {
        let keys: Result<Vec<_>, _> = public_pems.iter().map(|pem| PublicKey::from_pem(pem)).collect();
        let issuer = ServiceAccountIssuer::new(keys.map_err(value_error)?, issuers, audiences);
        self.0.set_service_account_issuer(issuer);
        Ok(())
    }

    fn keep_token(&self, token: &str, user: &UserInfo) {
        self.0.keep_token(token, CoreUser::clone(&user.0));
    }

    fn forget_token(&self, token: &str) {
        self.0.forget_token(token);
    }

    fn vouch(&self, token: &str, user: &UserInfo, expires_unix: f64) {
        self.0.vouch(token, CoreUser::clone(&user.0), expires_unix);
    }

    #[pyo3(signature = (token, *, warning = None, annotations = Vec::new()))]
    fn remark(&self, token: &str, warning: Option<&str>, annotations: Vec<(String, String)>) -> PyResult<()> {
        let warning = warning.map(crate::route::warning).transpose()?;
        self.0.remark(token, Remarks { warning, annotations });
        Ok(())
    }

    fn forget_vouched(&self) {
        self.0.forget_vouched();
    }

    fn set_delegate(&self, delegate: bool) {
        self.0.set_delegate(delegate);
    }

    #[pyo3(signature = (enabled, paths=Vec::new()))]
    fn set_anonymous(&self, enabled: bool, paths: Vec<String>) {
        self.0.set_anonymous(match (enabled, paths.is_empty()) {
            (false, _) => Anonymous::Nowhere,
            (true, true) => Anonymous::Everywhere,
            (true, false) => Anonymous::At(paths),
        });
    }

    fn review_token(&self, token: &str, audiences: Vec<String>) -> Option<(UserInfo, Vec<String>)> {
        self.0.review(token, &audiences).map(|(user, fitting)| (UserInfo(user), fitting))
    }
}

/// `kubecore.apiserver.authorization.attributes.Attributes`, a tuple of texts in this order: verb, group, version,
/// resource, subresource, namespace, name, path, field selector, label selector.
struct Asked([PyBackedStr; 10]);

impl<'a, 'py> FromPyObject<'a, 'py> for Asked {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        let tuple = object.cast::<PyTuple>()?;
        let parts: Vec<PyBackedStr> = tuple.iter().map(|part| part.extract()).collect::<PyResult<_>>()?;
        let parts = <[PyBackedStr; 10]>::try_from(parts);
        Ok(Self(parts.map_err(|_| PyValueError::new_err("attributes are ten texts"))?))
    }
}

impl Asked {
    fn attributes(&self) -> CoreAttributes<'_> {
        let [verb, group, version, resource, subresource, namespace, name, path, _, _] = &self.0;
        let is_resource = path.is_empty();
        CoreAttributes { verb, group, version, resource, subresource, namespace, name, path, is_resource }
    }

    fn selectors(&self) -> Selectors {
        Selectors { field: self.0[8].to_string(), label: self.0[9].to_string() }
    }
}

/// What decisions come from at one time.
#[pyclass(frozen, module = "kubecore._native")]
struct PolicySeen {
    authorizer: Arc<CoreAuthorizer>,
    seen: Seen,
}

#[pymethods]
impl PolicySeen {
    #[getter]
    fn current(&self) -> bool {
        self.authorizer.is_current(&self.seen)
    }
}

/// A right that the front holds, of which Python is to decide whether it still is one.
#[pyclass(frozen, module = "kubecore._native")]
struct OpenRight(Arc<Held>);

#[pymethods]
impl OpenRight {
    #[getter]
    fn user(&self) -> UserInfo {
        UserInfo(self.0.user.clone())
    }

    /// As `Asked` takes them.
    #[getter]
    fn attributes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let of = attributes_of(&self.0.info);
        let path = if of.is_resource { "" } else { of.path };
        let (field, label) = (self.0.selectors.field.as_str(), self.0.selectors.label.as_str());
        let asked = [of.verb, of.group, of.version, of.resource, of.subresource, of.namespace, of.name];
        PyTuple::new(py, asked.into_iter().chain([path, field, label]).collect::<Vec<_>>())
    }

    fn lapse(&self) {
        self.0.lapse();
    }
}

#[pyclass(frozen, module = "kubecore._native")]
pub struct Authorizer(pub Arc<CoreAuthorizer>);

#[pymethods]
impl Authorizer {
    #[pyo3(signature = (modes, names=Vec::new()))]
    fn set_modes(&self, modes: Vec<String>, names: Vec<String>) -> PyResult<()> {
        let named = Mode::named(modes.iter().map(String::as_str))
            .map_err(|name| value_error(format!("no authorization mode {name:?}")))?;
        self.0.set_modes(named, modes.into_iter().zip(names));
        Ok(())
    }

    fn decided(&self, mode: usize, allowed: bool) {
        self.0.decided.count(Some(mode), allowed);
    }

    fn set_abac(&self, policies: &[u8]) -> PyResult<()> {
        let policies: Vec<AbacPolicy> = serde_json::from_slice(policies).map_err(value_error)?;
        self.0.set_abac(policies);
        Ok(())
    }

    fn authorize(&self, user: &UserInfo, attributes: Asked) -> (Option<bool>, String) {
        let (verdict, by) =
            self.0.in_turn(&user.0, &attributes.attributes(), || attributes.selectors(), None);
        match verdict {
            Verdict::Allow => {
                self.0.decided.count(by, true);
                (Some(true), String::new())
            }
            Verdict::Deny(reason) | Verdict::NoOpinion(reason) => (Some(false), reason),
            Verdict::Python => (None, String::new()),
        }
    }

    fn rbac_allows(&self, user: &UserInfo, attributes: Asked) -> (bool, String) {
        let (decision, reason) = self.0.policy().current().explain(&user.0, &attributes.attributes());
        (decision == Decision::Allowed, reason)
    }

    fn abac_allows(&self, user: &UserInfo, attributes: Asked) -> bool {
        self.0.abac_allows(&user.0, &attributes.attributes())
    }

    #[pyo3(signature = (webhook, user, attributes, *, allowed, reason, until))]
    fn remember(
        &self,
        webhook: usize,
        user: &UserInfo,
        attributes: Asked,
        allowed: Option<bool>,
        reason: String,
        until: f64,
    ) {
        let opinion = match allowed {
            Some(true) => Opinion::Allow(reason),
            Some(false) => Opinion::Deny(reason),
            None => Opinion::None(reason),
        };
        self.0.remember(webhook, &user.0, &attributes.attributes(), &attributes.selectors(), opinion, until);
    }

    fn opinion(&self, webhook: usize, user: &UserInfo, attributes: Asked) -> Option<(Option<bool>, String)> {
        let found = self.0.opinion(webhook, &user.0, &attributes.attributes(), &attributes.selectors())?;
        Some(match found {
            Opinion::Allow(reason) => (Some(true), reason),
            Opinion::Deny(reason) => (Some(false), reason),
            Opinion::None(reason) => (None, reason),
        })
    }

    fn policy(&self) -> PolicySeen {
        PolicySeen { authorizer: self.0.clone(), seen: self.0.seen() }
    }

    fn review(&self, py: Python<'_>) -> Vec<OpenRight> {
        py.detach(|| self.0.review()).into_iter().map(OpenRight).collect()
    }

    /// Others have their turn meanwhile, as for `covers`: a user may hold very many rules.
    fn rules_for(
        &self,
        py: Python<'_>,
        user: &UserInfo,
        namespace: &str,
    ) -> PyResult<(Vec<u8>, Vec<String>)> {
        py.detach(|| {
            let (rules, errors) = rbac::rules_for(&self.0.policy().current(), &user.0, namespace);
            Ok((serde_json::to_vec(&rules).map_err(value_error)?, errors))
        })
    }

    fn covers(
        &self,
        py: Python<'_>,
        user: &UserInfo,
        namespace: &str,
        rules: &[u8],
    ) -> PyResult<(Vec<String>, Vec<String>)> {
        py.detach(|| {
            let wanted: Vec<PolicyRule> = serde_json::from_slice(rules).map_err(value_error)?;
            let (held, failures) = rbac::rules_for(&self.0.policy().current(), &user.0, namespace);
            let lacking = rbac::covers(&held, &wanted);
            let lacking = lacking.map_err(|rbac::TooMany(count)| PyOverflowError::new_err(count))?;
            Ok((rbac::described(lacking), failures))
        })
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<UserInfo>()?;
    module.add_class::<Authenticator>()?;
    module.add_class::<PolicySeen>()?;
    module.add_class::<OpenRight>()?;
    module.add_class::<Authorizer>()
}
