//! PodDisruptionBudgets: whose going would violate one.

use rustc_hash::{FxHashMap, FxHashSet};
use serde::Deserialize;

use super::facts::SelectorFacts;
use super::population::LabelSet;
use super::table::FactsError;
use crate::selector::LabelSelector;

/// As the facade writes it; an API object's fields by other names.
#[derive(Deserialize)]
struct BudgetFacts {
    namespace: String,
    selector: Option<SelectorFacts>,
    allowed: i64,
    /// Pods that the API server counted already, when it let them be evicted.
    #[serde(default)]
    disrupted: FxHashSet<String>,
}

struct Budget {
    selector: LabelSelector,
    allowed: i64,
    disrupted: FxHashSet<String>,
}

/// By namespace.
#[derive(Default)]
pub struct Budgets(FxHashMap<String, Vec<Budget>>);

/// How often each budget was used so far, by namespace and place.
#[derive(Default)]
pub struct Used<'a>(FxHashMap<(&'a str, usize), i64>);

impl Budgets {
    /// `facts`: a JSON array. One that chooses nothing (without selector, with an empty one, or one that cannot be read)
    /// protects nobody.
    pub fn read(facts: &[u8]) -> Result<Self, FactsError> {
        let given: Vec<BudgetFacts> =
            serde_json::from_slice(facts).map_err(|error| FactsError(error.to_string()))?;
        let mut budgets = Self::default();
        for one in given {
            let Ok(selector) = SelectorFacts::compile(one.selector.as_ref()) else { continue };
            if one.selector.is_some() && !selector.is_empty() {
                let budget = Budget { selector, allowed: one.allowed, disrupted: one.disrupted };
                budgets.0.entry(one.namespace).or_default().push(budget);
            }
        }
        Ok(budgets)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the pod's going violates one if all that were asked about before go, too.
    pub fn is_violated<'a>(&'a self, set: &LabelSet, name: &str, used: &mut Used<'a>) -> bool {
        if self.0.is_empty() || set.labels.0.is_empty() {
            return false;
        }
        let Some((namespace, budgets)) = self.0.get_key_value(&set.namespace) else { return false };
        let mut violated = false;
        for (place, budget) in budgets.iter().enumerate() {
            if budget.selector.matches(&set.labels) && !budget.disrupted.contains(name) {
                let count = used.0.entry((namespace, place)).or_default();
                *count += 1;
                violated |= *count > budget.allowed;
            }
        }
        violated
    }
}
