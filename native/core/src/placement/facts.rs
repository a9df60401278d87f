//! What placement needs to know of a pod and of a node, as the facade writes it (JSON; names are those of core/v1).

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use crate::selector::{LabelSelector, LabelSelectorSpec, Lookup, Pairs, RequirementSpec, SelectorError};

/// String pairs in key order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels(pub Box<[(Box<str>, Box<str>)]>);

impl Lookup for Labels {
    fn lookup(&self, key: &str) -> Option<&str> {
        let found = self.0.binary_search_by(|(name, _)| (**name).cmp(key)).ok()?;
        Some(&self.0[found].1)
    }
}

impl Pairs for Labels {
    fn all(&self, mut holds: impl FnMut(&str, &str) -> bool) -> bool {
        self.0.iter().all(|(key, value)| holds(key, value))
    }
}

impl Labels {
    /// Whether all of `wanted` are among these.
    pub fn include(&self, wanted: &Labels) -> bool {
        wanted.0.iter().all(|(key, value)| self.lookup(key) == Some(value))
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = Option::<BTreeMap<Box<str>, Box<str>>>::deserialize(deserializer)?;
        Ok(Self(map.unwrap_or_default().into_iter().collect()))
    }
}

fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodFacts {
    pub namespace: String,
    pub labels: Labels,
    pub deleting: bool,
    pub priority: i64,
    /// Amounts in the units of `NodeFacts::allocatable`.
    pub requests: BTreeMap<String, i64>,
    /// cpu and memory as scoring takes them: with defaults where a container asks for nothing.
    pub used: (i64, i64),
    pub ports: Vec<HostPort>,
    pub node_name: String,
    pub node_selector: Labels,
    #[serde(deserialize_with = "null_is_default")]
    pub affinity: Affinity,
    #[serde(deserialize_with = "null_is_default")]
    pub tolerations: Vec<Toleration>,
    #[serde(deserialize_with = "null_is_default")]
    pub spread: Vec<SpreadConstraint>,
    /// Names with tags of the images of all containers, init containers with them.
    pub images: Vec<Box<str>>,
    /// Whom pods without constraints of their own are spread with.
    pub defaults: Option<DefaultSpread>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeFacts {
    pub labels: Labels,
    #[serde(deserialize_with = "null_is_default")]
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    /// cpu in thousandths, everything else in whole units.
    pub allocatable: BTreeMap<String, i64>,
    /// Bytes by the names of the images that are there.
    pub images: BTreeMap<Box<str>, i64>,
    /// Region and zone.
    pub zone: (String, String),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
pub struct HostPort {
    pub address: Box<str>,
    pub protocol: Box<str>,
    pub port: i64,
}

impl HostPort {
    /// A port taken on all addresses is taken on each of them, and the other way round.
    pub fn conflicts(&self, other: &Self) -> bool {
        const ANY: &str = "0.0.0.0";
        self.protocol == other.protocol
            && self.port == other.port
            && (&*self.address == ANY || &*other.address == ANY || self.address == other.address)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub struct Taint {
    pub key: String,
    #[serde(deserialize_with = "null_is_default")]
    pub value: String,
    pub effect: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub struct Toleration {
    #[serde(deserialize_with = "null_is_default")]
    pub key: String,
    #[serde(deserialize_with = "null_is_default")]
    pub operator: String,
    #[serde(deserialize_with = "null_is_default")]
    pub value: String,
    #[serde(deserialize_with = "null_is_default")]
    pub effect: String,
}

impl Toleration {
    /// Toleration.ToleratesTaint of core/v1.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        if !self.effect.is_empty() && self.effect != taint.effect {
            return false;
        }
        if !self.key.is_empty() && self.key != taint.key {
            return false;
        }
        match self.operator.as_str() {
            "Exists" => true,
            // Gt and Lt are behind a feature gate that is off (KEP-5471)
            "" | "Equal" => !self.key.is_empty() && self.value == taint.value,
            _ => false,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Affinity {
    #[serde(deserialize_with = "null_is_default")]
    pub node_affinity: NodeAffinity,
    #[serde(deserialize_with = "null_is_default")]
    pub pod_affinity: PodTerms,
    #[serde(deserialize_with = "null_is_default")]
    pub pod_anti_affinity: PodTerms,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub struct NodeAffinity {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    pub required: Option<NodeSelectorFacts>,
    #[serde(
        rename = "preferredDuringSchedulingIgnoredDuringExecution",
        deserialize_with = "null_is_default"
    )]
    pub preferred: Vec<PreferredNodes>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSelectorFacts {
    #[serde(deserialize_with = "null_is_default")]
    pub node_selector_terms: Vec<NodeTerm>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub struct PreferredNodes {
    pub weight: i64,
    pub preference: NodeTerm,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeTerm {
    #[serde(deserialize_with = "null_is_default")]
    pub match_expressions: Vec<NodeRequirement>,
    #[serde(deserialize_with = "null_is_default")]
    pub match_fields: Vec<NodeRequirement>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub struct NodeRequirement {
    pub key: String,
    pub operator: String,
    #[serde(deserialize_with = "null_is_default")]
    pub values: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub struct PodTerms {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution", deserialize_with = "null_is_default")]
    pub required: Vec<PodTerm>,
    #[serde(
        rename = "preferredDuringSchedulingIgnoredDuringExecution",
        deserialize_with = "null_is_default"
    )]
    pub preferred: Vec<PreferredPods>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PreferredPods {
    pub weight: i64,
    pub pod_affinity_term: PodTerm,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodTerm {
    pub label_selector: Option<SelectorFacts>,
    #[serde(deserialize_with = "null_is_default")]
    pub namespaces: Vec<String>,
    pub namespace_selector: Option<SelectorFacts>,
    pub topology_key: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SpreadConstraint {
    pub max_skew: i64,
    pub topology_key: String,
    pub when_unsatisfiable: String,
    pub label_selector: Option<SelectorFacts>,
    #[serde(deserialize_with = "null_is_default")]
    pub match_label_keys: Vec<String>,
    pub min_domains: Option<i64>,
    #[serde(deserialize_with = "null_is_default")]
    pub node_affinity_policy: String,
    #[serde(deserialize_with = "null_is_default")]
    pub node_taints_policy: String,
}

/// The pods that the same Services and the same controller choose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub struct DefaultSpread {
    pub labels: Labels,
    /// None chooses everything here.
    pub selector: Option<SelectorFacts>,
}

/// metav1.LabelSelector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SelectorFacts {
    pub match_labels: Labels,
    #[serde(deserialize_with = "null_is_default")]
    pub match_expressions: Vec<NodeRequirement>,
}

impl SelectorFacts {
    /// None selects nothing, an empty selector everything.
    pub fn compile(given: Option<&Self>) -> Result<LabelSelector, SelectorError> {
        let spec = given.map(|facts| LabelSelectorSpec {
            match_labels: facts.match_labels.0.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            match_expressions: facts.match_expressions.iter().map(requirement).collect(),
        });
        LabelSelector::from_spec(spec.as_ref())
    }
}

fn requirement(given: &NodeRequirement) -> RequirementSpec {
    RequirementSpec { key: given.key.clone(), operator: given.operator.clone(), values: given.values.clone() }
}
