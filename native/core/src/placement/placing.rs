//! The decision about one pod: search nodes until enough are found, score them, take one of the best.

use std::sync::Arc;

use serde::Deserialize;

use super::filtering::{Counted, FilterPlugin, Question, Refusal, Refusals};
use super::nodes::Slot;
use super::registry::Id;
use super::scoring::{ScoreOptions, ScorePlugin, totals};
use super::shift::{Shift, UNMOVED};
use super::standing::Standings;
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
    /// There are score plugins, here or elsewhere.
    pub chooses: bool,
}

/// What is to be known of the pod itself, besides its facts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish<'a> {
    pub uid: &'a str,
    pub priority: i64,
    /// The node that is being made free for it.
    pub nominated: Option<&'a str>,
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
    /// Nodes that were refused for reasons which pods that leave may take away.
    pub crowded: Arc<Vec<Slot>>,
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
    /// Room for a diagnosis' `crowded`.
    spare: Vec<Slot>,
    pub(super) standings: Standings,
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

/// Looks at one node after the other until enough are found.
struct Walk<'a> {
    nodes: &'a [Slot],
    /// The place of the first one, less than there are nodes.
    start: usize,
    enough: usize,
    seen: usize,
    found: Vec<Slot>,
    refusals: Refusals,
    crowded: Vec<Slot>,
}

impl<'a> Walk<'a> {
    /// `crowded` is empty.
    fn new(nodes: &'a [Slot], start: usize, enough: usize, crowded: Vec<Slot>) -> Self {
        let found = Vec::new();
        Self { nodes, start, enough, seen: 0, found, refusals: Refusals::default(), crowded }
    }

    fn next(&self) -> Option<Slot> {
        let (all, place) = (self.nodes.len(), self.start + self.seen);
        let more = self.seen < all && self.found.len() < self.enough;
        // a division would take as long as the questions
        more.then(|| self.nodes[if place < all { place } else { place - all }])
    }

    fn refuse(&mut self, question: &Question<'_>, refusal: Refusal, slot: Slot, shift: &Shift) {
        self.seen += 1;
        question.count(&mut self.refusals, refusal, slot, shift);
        if !question.is_hopeless(refusal, slot) {
            self.crowded.push(slot);
        }
    }

    /// A node must take the pod together with those that are nominated to it, since they may need the room, and without
    /// them, since it may be them that it wants to be near to.
    fn go<E>(
        &mut self,
        table: &mut Table,
        template: Id,
        filters: &[FilterPlugin],
        wish: &Wish<'_>,
        also: &mut impl FnMut(&str) -> Result<bool, E>,
    ) -> Result<(), E> {
        let mut fits_with_coming = None;
        let yielding = table.nominations.yielding(wish.uid, wish.priority);
        let (mut coming, mut shift) = (Vec::new(), Shift::default());
        while self.next().is_some() {
            let question = Question::new(table, table.at(template), filters);
            // a plugin that has nothing to ask as things are is not asked about those that are coming, either
            let asked = question.filters().to_vec();
            let mut expects = None;
            while let Some(slot) = self.next() {
                coming.clear();
                if fits_with_coming != Some(slot) {
                    table.nominations.coming(slot, yielding, &mut coming);
                }
                if !coming.is_empty() && !question.is_of_one_node() {
                    expects = Some(slot);
                    break;
                }
                if let Some(refusal) = question.ask_expecting(slot, &coming, &mut shift) {
                    self.refuse(&question, refusal, slot, &shift);
                    continue;
                }
                self.seen += 1;
                if also(table.name(slot))? {
                    self.found.push(slot);
                }
            }
            let Some(slot) = expects else { continue };
            coming.iter().for_each(|&one| table.count(one, slot, 1));
            let question = Question::new(table, table.at(template), &asked);
            match question.ask(slot) {
                None => fits_with_coming = Some(slot),
                Some(refusal) => self.refuse(&question, refusal, slot, &UNMOVED),
            }
            coming.iter().for_each(|&one| table.count(one, slot, -1));
        }
        Ok(())
    }
}

impl Placer {
    pub fn new(profile: Profile, seed: u64) -> Self {
        Self { profile, start: 0, chance: seed, spare: Vec::new(), standings: Standings::default() }
    }

    /// A diagnosis' `crowded` that nobody needs any more. As large as it is, the kernel would have to clear the memory
    /// for each one anew.
    pub fn take_back(&mut self, crowded: Arc<Vec<Slot>>) {
        if let Some(crowded) = Arc::into_inner(crowded) {
            self.keep(crowded);
        }
    }

    fn keep(&mut self, mut crowded: Vec<Slot>) {
        if crowded.capacity() > self.spare.capacity() {
            crowded.clear();
            self.spare = crowded;
        }
    }

    /// The nodes that can take the pod, and that `also` agrees to; it is asked of no others.
    pub fn search<E>(
        &mut self,
        table: &mut Table,
        template: Id,
        wish: &Wish<'_>,
        mut also: impl FnMut(&str) -> Result<bool, E>,
    ) -> Result<Found, E> {
        let order = table.nodes.put_in_order();
        let mut diagnosis = Diagnosis { nodes: order.len(), ..Diagnosis::default() };
        let mut nodes = order;
        if self.profile.filters.contains(&FilterPlugin::NodeAffinity)
            && let Some(names) = &table.at(template).named
        {
            diagnosis.conflict = names.is_empty();
            let named: Arc<[Slot]> = names.iter().filter_map(|name| table.slot(name)).collect();
            diagnosis.not_named = Some(nodes.len() - named.len());
            nodes = named;
        }
        let mut found = Found { slots: Vec::new(), diagnosis };
        if found.diagnosis.conflict {
            return Ok(found);
        }
        // the node that is being made free for the pod: no other needs looking at if it fits there
        if let Some(slot) = wish.nominated.and_then(|name| table.slot(name)) {
            let only = [slot];
            let mut walk = Walk::new(&only, 0, 1, Vec::new());
            walk.go(table, template, &self.profile.filters, wish, &mut also)?;
            if !walk.found.is_empty() {
                found.slots = walk.found;
                return Ok(found);
            }
        }
        if nodes.is_empty() {
            return Ok(found);
        }
        // with nothing to choose by, the first will do
        let percentage = self.profile.percentage_of_nodes_to_score;
        let enough = if self.profile.chooses { nodes_to_find(nodes.len(), percentage) } else { 1 };
        let spare = std::mem::take(&mut self.spare);
        let mut walk = Walk::new(&nodes, self.start % nodes.len(), enough, spare);
        walk.go(table, template, &self.profile.filters, wish, &mut also)?;
        self.start = walk.start + walk.seen;
        if walk.found.is_empty() {
            found.diagnosis.refused = walk.refusals.counted(table);
            found.diagnosis.crowded = Arc::new(walk.crowded);
        } else {
            self.keep(walk.crowded);
        }
        found.slots = walk.found;
        Ok(found)
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

    /// Why no node will do, where that is known of pods like this one but for what has changed since.
    fn recalled(&mut self, table: &mut Table, template: Id, wish: &Wish<'_>) -> Option<Diagnosis> {
        if wish.nominated.is_some() || table.at(template).named.is_some() {
            return None;
        }
        let order = table.nodes.put_in_order();
        let question = Question::new(table, table.at(template), &self.profile.filters);
        let nodes = order.len();
        let standing = self.standings.of(table, template, wish, &question, order)?;
        standing.refuses_all().then_some(())?;
        let refused = standing.refusals().counted(table);
        Some(Diagnosis { nodes, refused, crowded: standing.crowded(), ..Diagnosis::default() })
    }

    /// The node of the pod, or why there is none.
    pub fn decide(&mut self, table: &mut Table, template: Id, wish: &Wish<'_>) -> Result<Slot, Diagnosis> {
        if let Some(diagnosis) = self.recalled(table, template, wish) {
            return Err(diagnosis);
        }
        let everyone = |_: &str| Ok::<bool, std::convert::Infallible>(true);
        let Ok(found) = self.search(table, template, wish, everyone);
        match found.slots.as_slice() {
            [] => {
                self.standings.refused(table.facts_of(template));
                Err(found.diagnosis)
            }
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
