//! The decision about one pod: search nodes until enough are found, score them, take one of the best.

use serde::Deserialize;

use super::filtering::{Counted, FilterPlugin, Question, Refusals};
use super::nodes::Slot;
use super::registry::Id;
use super::scoring::{ScoreOptions, ScorePlugin, totals};
use super::table::{FactsError, Table};

/// The plugins that run, and how. As JSON: `{"filters": [names], "scores": [[name, weight]], ...}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    pub filters: Vec<FilterPlugin>,
    pub scores: Vec<(ScorePlugin, i64)>,
    #[serde(default)]
    pub options: ScoreOptions,
    /// 0: a share that shrinks with the number of nodes.
    #[serde(default)]
    pub percentage_of_nodes_to_score: i64,
}

impl Profile {
    pub fn read(bytes: &[u8]) -> Result<Self, FactsError> {
        serde_json::from_slice(bytes).map_err(|error| FactsError(error.to_string()))
    }
}

/// Why no node will do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    pub nodes: usize,
    /// The pod names its nodes, and this many are none of them.
    pub not_named: Option<usize>,
    /// It names none that could be.
    pub conflict: bool,
    pub refused: Vec<Counted>,
}

/// What a search found: nodes that can take the pod, in the order they were looked at.
pub struct Found {
    pub slots: Vec<Slot>,
    pub diagnosis: Diagnosis,
}

/// Decides for one profile. Searches on each time from where the last search ended, so that all nodes get their share.
pub struct Placer {
    pub profile: Profile,
    start: usize,
    chance: u64,
}

/// How many feasible nodes are enough among `count`: all up to 100, then a share that shrinks to 5 %.
pub fn nodes_to_find(count: usize, percentage: i64) -> usize {
    if count < 100 {
        return count;
    }
    let shrinking = (50 - count as i64 / 125).max(5);
    let percentage = if percentage > 0 { percentage } else { shrinking };
    (count * percentage as usize / 100).max(100)
}

impl Placer {
    pub fn new(profile: Profile, seed: u64) -> Self {
        Self { profile, start: 0, chance: seed }
    }

    /// The nodes that can take the pod, and that `also` agrees to; it is asked of no others.
    pub fn search<E>(
        &mut self,
        table: &mut Table,
        template: Id,
        mut also: impl FnMut(&str) -> Result<bool, E>,
    ) -> Result<Found, E> {
        table.nodes.put_in_order();
        let (table, order) = (&*table, table.nodes.order());
        let template = table.at(template);
        let mut diagnosis = Diagnosis { nodes: order.len(), ..Diagnosis::default() };
        let narrows = self.profile.filters.contains(&FilterPlugin::NodeAffinity);
        let named = template.named.as_ref().filter(|_| narrows);
        let named: Option<Vec<Slot>> =
            named.map(|names| names.iter().filter_map(|name| table.nodes.existing(name)).collect());
        if let Some(slots) = &named {
            diagnosis.conflict = template.named.as_ref().is_some_and(Vec::is_empty);
            diagnosis.not_named = Some(order.len() - slots.len());
        }
        let nodes = named.as_deref().unwrap_or(order);
        let mut found = Vec::new();
        if nodes.is_empty() || diagnosis.conflict {
            return Ok(Found { slots: found, diagnosis });
        }
        let question = Question::new(table, template, &self.profile.filters);
        let enough = nodes_to_find(nodes.len(), self.profile.percentage_of_nodes_to_score);
        let start = self.start % nodes.len();
        let mut seen = 0;
        let mut refusals = Refusals::default();
        for &slot in nodes[start..].iter().chain(&nodes[..start]) {
            seen += 1;
            if let Some(refusal) = question.ask(slot) {
                question.count(&mut refusals, refusal, slot);
            } else if also(&table.nodes.names[slot])? {
                found.push(slot);
                if found.len() >= enough {
                    break;
                }
            }
        }
        self.start = start + seen;
        if found.is_empty() {
            diagnosis.refused = refusals.counted(table);
        }
        Ok(Found { slots: found, diagnosis })
    }

    /// Weighted totals of the nodes, in their order.
    pub fn totals(&self, table: &Table, template: Id, nodes: &[Slot]) -> Vec<i64> {
        totals(table, table.at(template), &self.profile.scores, &self.profile.options, nodes)
    }

    /// One of those with the highest total; among equals chance decides.
    pub fn choose(&mut self, totals: &[i64]) -> Option<usize> {
        let best = totals.iter().copied().max()?;
        let equals = totals.iter().filter(|&&total| total == best).count() as u64;
        let which = self.random() % equals;
        let mut best_ones = totals.iter().enumerate().filter(|(_, total)| **total == best);
        best_ones.nth(which as usize).map(|one| one.0)
    }

    /// The node of the pod, or why there is none.
    pub fn decide(&mut self, table: &mut Table, template: Id) -> Result<Slot, Diagnosis> {
        let everyone = |_: &str| Ok::<bool, std::convert::Infallible>(true);
        let Ok(found) = self.search(table, template, everyone);
        match found.slots.as_slice() {
            [] => Err(found.diagnosis),
            [only] => Ok(*only),
            several => {
                let totals = self.totals(table, template, several);
                self.choose(&totals).map(|index| several[index]).ok_or(found.diagnosis)
            }
        }
    }

    /// splitmix64
    fn random(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}
