//! FlowSchemas and PriorityLevelConfigurations as they are stored, as far as they matter here.

use serde::Deserialize;

use crate::level::Queuing;

#[derive(Clone, Debug, Deserialize)]
pub struct Object<S> {
    pub name: String,
    #[serde(default)]
    pub uid: String,
    pub spec: S,
}

/// All that is to be in force, mandatory objects included.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Objects {
    /// Of all levels together.
    pub seats: u32,
    pub levels: Vec<Object<LevelSpec>>,
    pub schemas: Vec<Object<SchemaSpec>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LevelSpec {
    pub limited: Option<Limited>,
    pub exempt: Option<Exempt>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Exempt {
    pub nominal_concurrency_shares: u32,
    pub lendable_percent: u32,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limited {
    pub nominal_concurrency_shares: u32,
    pub lendable_percent: u32,
    pub borrowing_limit_percent: Option<u32>,
    pub limit_response: LimitResponse,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct LimitResponse {
    pub queuing: Option<QueuingSpec>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueuingSpec {
    pub queues: usize,
    pub hand_size: usize,
    pub queue_length_limit: usize,
}

impl LevelSpec {
    /// Validation lets only the level `exempt` have no limits.
    pub fn is_exempt(&self) -> bool {
        self.limited.is_none()
    }

    pub fn queuing(&self) -> Queuing {
        match self.limited.as_ref().map(|limited| &limited.limit_response.queuing) {
            None => Queuing::Exempt,
            Some(Some(queuing)) if queuing.queues > 0 => Queuing::Queue {
                queues: queuing.queues,
                hand: queuing.hand_size.max(1),
                length: queuing.queue_length_limit,
            },
            Some(_) => Queuing::Reject,
        }
    }

    pub fn shares(&self) -> u32 {
        match (&self.limited, &self.exempt) {
            (Some(limited), _) => limited.nominal_concurrency_shares,
            (None, Some(exempt)) => exempt.nominal_concurrency_shares,
            (None, None) => 0,
        }
    }

    pub fn lendable_percent(&self) -> u32 {
        match (&self.limited, &self.exempt) {
            (Some(limited), _) => limited.lendable_percent,
            (None, Some(exempt)) => exempt.lendable_percent,
            (None, None) => 0,
        }
    }

    pub fn borrowing_limit_percent(&self) -> Option<u32> {
        self.limited.as_ref()?.borrowing_limit_percent
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SchemaSpec {
    pub priority_level_configuration: Named,
    #[serde(default)]
    pub matching_precedence: i32,
    #[serde(default)]
    pub distinguisher_method: Option<DistinguisherMethod>,
    #[serde(default)]
    pub rules: Vec<Rule>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Named {
    pub name: String,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(tag = "type")]
pub enum DistinguisherMethod {
    ByUser,
    ByNamespace,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    pub subjects: Vec<Subject>,
    pub resource_rules: Vec<ResourceRule>,
    pub non_resource_rules: Vec<NonResourceRule>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all_fields = "camelCase")]
pub enum Subject {
    User { user: Named },
    Group { group: Named },
    ServiceAccount { service_account: ServiceAccount },
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ServiceAccount {
    pub namespace: String,
    pub name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceRule {
    pub verbs: Vec<String>,
    pub api_groups: Vec<String>,
    pub resources: Vec<String>,
    pub cluster_scope: bool,
    pub namespaces: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NonResourceRule {
    pub verbs: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    pub urls: Vec<String>,
}
