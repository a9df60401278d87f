//! Which of the nodes that can take a pod is best: kube-scheduler's score plugins, 0 to 100 each, weighted.

use std::str::FromStr;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::StrDeserializer;

use super::filtering::at;
use super::nodes::{CPU, MEMORY, NO_VALUE, Slot};
use super::population::Claim;
use super::table::{FactsError, Table};
use super::template::{Soft, Template};

const MAXIMUM: i64 = 100;
const MEGABYTE: i64 = 1024 * 1024;
/// What images are usually as large as, compressed in a registry.
const LEAST_IMAGE: i64 = 23 * MEGABYTE;
const MOST_OF_CONTAINER: i64 = 1000 * MEGABYTE;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
pub enum ScorePlugin {
    NodeAffinity,
    TaintToleration,
    NodeResourcesFit,
    NodeResourcesBalancedAllocation,
    PodTopologySpread,
    InterPodAffinity,
    ImageLocality,
}

impl FromStr for ScorePlugin {
    type Err = FactsError;

    fn from_str(name: &str) -> Result<Self, FactsError> {
        let name: StrDeserializer<'_, serde::de::value::Error> = name.into_deserializer();
        Self::deserialize(name).map_err(|error| FactsError(error.to_string()))
    }
}

/// How NodeResourcesFit and InterPodAffinity are set up.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScoreOptions {
    pub strategy: Strategy,
    /// What required affinity terms of pods that are there weigh for a pod that comes.
    pub hard_pod_affinity_weight: i64,
    pub ignore_preferred_terms_of_existing_pods: bool,
}

impl Default for ScoreOptions {
    fn default() -> Self {
        Self {
            strategy: Strategy::LeastAllocated,
            hard_pod_affinity_weight: 1,
            ignore_preferred_terms_of_existing_pods: false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Strategy {
    LeastAllocated,
    MostAllocated,
}

/// Weighted totals of the nodes, in their order.
pub fn totals(
    table: &Table,
    template: &Template,
    plugins: &[(ScorePlugin, i64)],
    options: &ScoreOptions,
    nodes: &[Slot],
) -> Vec<i64> {
    let mut totals = vec![0; nodes.len()];
    let scoring = Scoring { table, template, options, nodes };
    for &(plugin, weight) in plugins {
        if let Some(scores) = scoring.scores(plugin) {
            totals.iter_mut().zip(scores).for_each(|(total, score)| *total += score * weight);
        }
    }
    totals
}

/// Scores of one plugin; None when it makes no difference between nodes.
pub fn scores(
    table: &Table,
    template: &Template,
    plugin: ScorePlugin,
    options: &ScoreOptions,
    nodes: &[Slot],
) -> Option<Vec<i64>> {
    Scoring { table, template, options, nodes }.scores(plugin)
}

struct Scoring<'a> {
    table: &'a Table,
    template: &'a Template,
    options: &'a ScoreOptions,
    nodes: &'a [Slot],
}

impl Scoring<'_> {
    fn scores(&self, plugin: ScorePlugin) -> Option<Vec<i64>> {
        match plugin {
            ScorePlugin::NodeAffinity => self.node_affinity(),
            ScorePlugin::TaintToleration => self.taints(),
            ScorePlugin::NodeResourcesFit => Some(self.each(|slot| self.fit(slot))),
            ScorePlugin::NodeResourcesBalancedAllocation => self.balanced(),
            ScorePlugin::PodTopologySpread => self.spread(),
            ScorePlugin::InterPodAffinity => self.pods_around(),
            ScorePlugin::ImageLocality => self.images(),
        }
    }

    fn each<T>(&self, score: impl FnMut(Slot) -> T) -> Vec<T> {
        self.nodes.iter().copied().map(score).collect()
    }

    fn node_affinity(&self) -> Option<Vec<i64>> {
        if !self.template.prefers_nodes {
            return None;
        }
        let rules = &self.table.population.rules;
        let (rule, findings) = (rules.key(self.template.rule), &rules[self.template.rule]);
        let mut scores = self.each(|slot| findings.preference(rule, &self.table.nodes, slot));
        scale(&mut scores, false);
        Some(scores)
    }

    fn taints(&self) -> Option<Vec<i64>> {
        let facts = |slot: Slot| self.table.nodes.facts[slot].as_ref();
        let any = self
            .nodes
            .iter()
            .filter_map(|&slot| facts(slot))
            .any(|node| node.taints.iter().any(|taint| taint.effect == "PreferNoSchedule"));
        if !any {
            return None;
        }
        let rule = self.table.population.rules.key(self.template.rule);
        let mut scores = self.each(|slot| facts(slot).map_or(0, |node| rule.intolerable(node)));
        scale(&mut scores, true);
        Some(scores)
    }

    /// Of cpu and memory, the share that stays free (or is taken), both counting the same.
    fn fit(&self, slot: Slot) -> i64 {
        let nodes = &self.table.nodes;
        let (cpu, memory) = self.template.used;
        let share = |resource: usize, used: i64| {
            let room = nodes.resources[resource].allocatable[slot];
            (room > 0).then(|| match self.options.strategy {
                Strategy::LeastAllocated => room.wrapping_sub(used).max(0).wrapping_mul(MAXIMUM) / room,
                Strategy::MostAllocated => used.min(room).wrapping_mul(MAXIMUM) / room,
            })
        };
        let shares =
            [share(CPU, nodes.used_cpu[slot] + cpu), share(MEMORY, nodes.used_memory[slot] + memory)];
        let known = shares.iter().flatten();
        let count = known.clone().count() as i64;
        if count == 0 { 0 } else { known.sum::<i64>() / count }
    }

    /// A pod that requests neither cpu nor memory changes the balance nowhere.
    fn balanced(&self) -> Option<Vec<i64>> {
        let request = |index: usize| {
            let found = self.template.requests.iter().find(|(resource, _)| *resource == index);
            found.map_or(0, |(_, amount)| *amount)
        };
        let wanted = [(CPU, request(CPU)), (MEMORY, request(MEMORY))];
        if wanted.iter().all(|(_, amount)| *amount == 0) {
            return None;
        }
        Some(self.each(|slot| {
            let fraction = |(index, wanted): (usize, i64)| {
                let resource = &self.table.nodes.resources[index];
                let room = resource.allocatable[slot];
                let used = resource.requested[slot].wrapping_add(wanted);
                (room > 0).then(|| (used as f64 / room as f64).min(1.0))
            };
            let deviation = match wanted.map(fraction) {
                [Some(cpu), Some(memory)] => (cpu - memory).abs() / 2.0,
                _ => 0.0,
            };
            ((1.0 - deviation) * MAXIMUM as f64) as i64
        }))
    }

    // ------------------------------------------------------------------ spreading
    fn spread(&self) -> Option<Vec<i64>> {
        let soft = &self.template.soft;
        if soft.is_empty() {
            return None;
        }
        let columns = &self.table.nodes.columns;
        // nodes without zones can still be spread over by the defaults
        let is_ignored = |slot: Slot| {
            self.template.strict && soft.iter().any(|one| columns[one.column].of[slot] == NO_VALUE)
        };
        let ignored = self.each(is_ignored);
        let candidates = || self.nodes.iter().zip(&ignored).filter(|(_, out)| !**out).map(|(&slot, _)| slot);
        let weights: Vec<f64> = soft
            .iter()
            .map(|one| {
                // so that the counts of few domains are not drowned by those of many
                let domains =
                    if one.hostname { candidates().count() } else { self.domains(one, candidates()) };
                ((domains + 2) as f64).ln()
            })
            .collect();
        let mut scores = self.each(|slot| self.crowd(&weights, slot));
        let real = || scores.iter().zip(&ignored).filter(|(_, out)| !**out).map(|(&score, _)| score);
        let (lowest, highest) = (real().min().unwrap_or_default(), real().max().unwrap_or_default());
        for (score, out) in scores.iter_mut().zip(&ignored) {
            *score = match (out, highest) {
                (true, _) => 0,
                (false, 0) => MAXIMUM,
                (false, highest) => (MAXIMUM * (highest + lowest - *score)).div_euclid(highest),
            };
        }
        Some(scores)
    }

    /// How many values of the label the candidates have; not to have it counts as one.
    fn domains(&self, one: &Soft, candidates: impl Iterator<Item = Slot>) -> usize {
        let column = &self.table.nodes.columns[one.column];
        let mut seen = vec![false; column.width() + 1];
        for slot in candidates {
            seen[(column.of[slot] as usize).min(column.width())] = true;
        }
        seen.into_iter().filter(|&is| is).count()
    }

    /// How crowded the node's domains are.
    fn crowd(&self, weights: &[f64], slot: Slot) -> i64 {
        let population = &self.table.population;
        let mut total = 0.0;
        for (one, weight) in self.template.soft.iter().zip(weights) {
            let value = self.table.nodes.columns[one.column].of[slot];
            if value == NO_VALUE {
                continue;
            }
            let count = if one.hostname {
                population.selectors[one.selector].on_node[slot]
            } else {
                at(&population.domains[one.domain].pods, value)
            };
            total += f64::from(count) * weight + one.max_skew as f64 - 1.0;
        }
        (total + 0.5f64).floor() as i64
    }

    // ------------------------------------------------------------------ other pods
    fn pods_around(&self) -> Option<Vec<i64>> {
        let population = &self.table.population;
        let preferred = &self.template.preferred;
        let mut terms: Vec<(usize, &[u32], i64)> = Vec::new();
        for term in preferred {
            let counts = &population.domains[term.domain];
            if counts.total > 0 {
                terms.push((term.column, &counts.pods, term.weight));
            }
        }
        if !preferred.is_empty() || !self.options.ignore_preferred_terms_of_existing_pods {
            for &id in &population.sets[self.template.set].wanted_by {
                let (term, carriers) = (population.carried.key(id), &population.carried[id]);
                let weight = match term.claim {
                    Claim::KeepOff => 0,
                    Claim::ComeHere => self.options.hard_pod_affinity_weight,
                    Claim::Preferably(weight) => weight,
                };
                if carriers.total > 0 && weight != 0 {
                    terms.push((term.column, &carriers.pods, weight));
                }
            }
        }
        if terms.is_empty() {
            return None;
        }
        let columns = &self.table.nodes.columns;
        let sum = |slot: Slot| {
            let of_term = |(column, pods, weight): &(usize, &[u32], i64)| {
                i64::from(at(pods, columns[*column].of[slot])) * weight
            };
            terms.iter().map(of_term).sum::<i64>()
        };
        let mut scores = self.each(sum);
        let lowest = scores.iter().copied().min().unwrap_or_default();
        let range = scores.iter().copied().max().unwrap_or_default() - lowest;
        for score in &mut scores {
            let share = if range > 0 { (*score - lowest) as f64 / range as f64 } else { 0.0 };
            *score = (MAXIMUM as f64 * share) as i64;
        }
        Some(scores)
    }

    // ------------------------------------------------------------------ images
    fn images(&self) -> Option<Vec<i64>> {
        let nodes = &self.table.nodes;
        let share = |name: &str| Some(f64::from(*nodes.images.get(name)?) / nodes.order().len() as f64);
        let images = self.template.images.iter();
        let held: Vec<(&str, f64)> = images.filter_map(|name| Some((&**name, share(name)?))).collect();
        if held.is_empty() {
            return None;
        }
        let most = MOST_OF_CONTAINER * self.template.images.len() as i64;
        Some(self.each(|slot| {
            // an image that few nodes have counts for little, or all pods with it would go there
            let size = |(name, share): &(&str, f64)| {
                let bytes = nodes.facts[slot].as_ref()?.images.get(*name)?;
                Some((*bytes as f64 * share) as i64)
            };
            let total: i64 = held.iter().filter_map(size).sum();
            (MAXIMUM * (total.max(LEAST_IMAGE).min(most) - LEAST_IMAGE)).div_euclid(most - LEAST_IMAGE)
        }))
    }
}

/// Scale so that the largest becomes 100; `reverse` turns them round (the smallest is best).
fn scale(scores: &mut [i64], reverse: bool) {
    let highest = scores.iter().copied().max().unwrap_or_default();
    for score in scores {
        *score = match (highest, reverse) {
            (0, true) => MAXIMUM,
            (0, false) => *score,
            (_, false) => *score * MAXIMUM / highest,
            (_, true) => MAXIMUM - *score * MAXIMUM / highest,
        };
    }
}
