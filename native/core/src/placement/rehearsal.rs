//! Preemption in thought: who has to leave a node so that a pod of higher priority fits, and where that harms least.
//!
//! (kubernetes `framework/preemption` and `plugins/defaultpreemption`. Chance decides there at which node to begin, and
//! here the caller; of pods of equal importance the one whose key comes first counts as the more important.)

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::budgets::Used;
use super::filtering::{FilterPlugin, Question, Refusal, Refusals, Verdict};
use super::nodes::Slot;
use super::nominations::Yielding;
use super::placing::{Placer, Wish};
use super::registry::Id;
use super::shift::{Shift, UNMOVED};
use super::table::{PodNumber, Table};

/// How to go about it.
#[derive(Clone, Copy, Debug)]
pub struct Rehearsal {
    /// The place of the node to begin with; from there on and round.
    pub start: usize,
    /// How many candidates will do, if one of them violates no budget.
    pub enough: usize,
    /// In the units of `Table::set_started`; when pods that have not started count as started.
    pub now: i64,
    /// Tell of all candidates and not only of the least harmful one.
    pub all: bool,
}

/// A node that would do if its victims were gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub slot: Slot,
    /// At least one; the most important first.
    pub victims: Vec<PodNumber>,
    /// How many of them their budgets would not let go.
    pub violations: u32,
}

#[derive(Debug, Default)]
pub struct Rehearsed {
    /// Those that violate no budget first.
    pub candidates: Vec<Candidate>,
    /// How many nodes would not do, and for how many of them each reason holds.
    pub refused: u32,
    pub reasons: BTreeMap<String, u32>,
}

/// What is asked of every node.
struct Asked<'a> {
    wish: &'a Wish<'a>,
    yielding: Yielding,
    now: i64,
}

/// By fewest violated budgets, then the lowest priority of the most important victim, the smallest sum of priorities,
/// the fewest victims, and the latest start of the most important ones.
type Harm = (u32, i64, i64, usize, Reverse<i64>);

struct Tried {
    candidate: Candidate,
    harm: Harm,
    /// Nothing but what is on the node has a say in it: not when it is asked, either.
    is_lasting: bool,
}

/// What a rehearsal found on a node, as long as nothing on it is different.
#[derive(Default)]
pub enum Memory {
    #[default]
    Unknown,
    /// No pod on it is of lower priority.
    NobodyLower,
    /// For this it would not do without all those, either.
    Refused(Verdict),
    /// It would do without these, and no budget has anything against it.
    Would(Remembered),
}

pub struct Remembered {
    victims: Vec<PodNumber>,
    priority: i64,
    total: i64,
    /// When the first one did, if it has.
    started: Option<i64>,
}

impl Memory {
    fn note(&mut self, found: &Result<Tried, NoCandidate>, table: &Table) {
        match found {
            Err(NoCandidate::NobodyLower) => *self = Self::NobodyLower,
            Err(NoCandidate::Refused(verdict)) => *self = Self::Refused(*verdict),
            Ok(one) if one.is_lasting => {
                let victims = one.candidate.victims.clone();
                let started = victims.first().and_then(|&pod| table.started(pod));
                let (_, priority, total, ..) = one.harm;
                *self = Self::Would(Remembered { victims, priority, total, started });
            }
            _ => {}
        }
    }
}

impl Remembered {
    fn candidate(&self, slot: Slot) -> Candidate {
        Candidate { slot, victims: self.victims.clone(), violations: 0 }
    }

    fn harm(&self, now: i64) -> Harm {
        (0, self.priority, self.total, self.victims.len(), Reverse(self.started.unwrap_or(now)))
    }
}

impl Placer {
    /// Tries the nodes of `crowd` as `plan` says. Nothing in the table is different afterwards.
    pub fn rehearse(
        &mut self,
        table: &mut Table,
        template: Id,
        wish: &Wish<'_>,
        crowd: &[Slot],
        plan: &Rehearsal,
    ) -> Rehearsed {
        let order = table.nodes.put_in_order();
        let question = Question::new(table, table.at(template), &self.profile.filters);
        if question.is_of_one_node() {
            // which of two pods a budget protects depends on all of its pods
            let standing = self.standings.of(table, template, wish, &question, order);
            let memories = standing.filter(|_| table.budgets.is_empty()).map(|one| one.memories());
            let stage = OnOneNode { table, question, shift: Shift::default() };
            return go_through(stage, template, memories, wish, crowd, plan);
        }
        // a plugin that has nothing to ask as things are is not asked later, either
        let filters = question.filters().to_vec();
        go_through(Anywhere { table, template, filters }, template, None, wish, crowd, plan)
    }
}

fn go_through(
    mut stage: impl Stage,
    template: Id,
    mut memories: Option<&mut [Memory]>,
    wish: &Wish<'_>,
    crowd: &[Slot],
    plan: &Rehearsal,
) -> Rehearsed {
    let yielding = stage.table().nominations.yielding(wish.uid, wish.priority);
    let question = Asked { wish, yielding, now: plan.now };
    let mut refusals = Refusals::default();
    let (mut refused, mut nobody_lower, mut more) = (0, 0, BTreeMap::new());
    let mut found = Candidates::default();
    for index in 0..crowd.len() {
        let slot = crowd[(plan.start + index) % crowd.len()];
        let known = memories.as_deref_mut().map(|all| &mut all[slot]);
        let why = match known.as_deref() {
            Some(Memory::NobodyLower) => Err(NoCandidate::NobodyLower),
            Some(&Memory::Refused(verdict)) => {
                refusals.count(verdict, stage.table().at(template), 1);
                Err(NoCandidate::Refused(verdict))
            }
            Some(Memory::Would(one)) => {
                found.take(one.harm(plan.now), plan, || one.candidate(slot));
                Ok(())
            }
            None | Some(Memory::Unknown) => {
                let tried = victims(&mut stage, &question, slot, &mut refusals);
                if let Some(known) = known {
                    known.note(&tried, stage.table());
                }
                tried.map(|one| found.take(one.harm, plan, || one.candidate))
            }
        };
        let Err(why) = why else {
            if found.are_enough(plan) {
                break;
            }
            continue;
        };
        refused += 1;
        match why {
            NoCandidate::NobodyLower => nobody_lower += 1,
            NoCandidate::Refused(_) => {}
            NoCandidate::NobodyHasToGo => {
                let reason =
                    format!("expected at least one victim pod on node \"{}\"", stage.table().name(slot));
                *more.entry(reason).or_default() += 1;
            }
        }
    }
    if nobody_lower > 0 {
        more.insert("No preemption victims found for incoming pod".to_owned(), nobody_lower);
    }
    let counted = refusals.counted(stage.table());
    let mut reasons: BTreeMap<String, u32> = counted.into_iter().map(|one| (one.reason, one.nodes)).collect();
    reasons.append(&mut more);
    Rehearsed { candidates: found.chosen(plan), refused, reasons }
}

/// Of each sort all, or the least harmful one: the first of several equals.
#[derive(Default)]
struct Candidates {
    peaceful: Vec<(Harm, Candidate)>,
    violating: Vec<(Harm, Candidate)>,
    /// How many there were of each.
    counts: [usize; 2],
}

impl Candidates {
    fn take(&mut self, harm: Harm, plan: &Rehearsal, candidate: impl FnOnce() -> Candidate) {
        let violates = harm.0 > 0;
        let count = &mut self.counts[usize::from(violates)];
        *count += 1;
        if violates && *count > plan.enough {
            return;
        }
        let known = if violates { &mut self.violating } else { &mut self.peaceful };
        match known.first_mut() {
            Some(least) if !plan.all => {
                if harm < least.0 {
                    *least = (harm, candidate());
                }
            }
            _ => known.push((harm, candidate())),
        }
    }

    fn are_enough(&self, plan: &Rehearsal) -> bool {
        self.counts[0] > 0 && self.counts.iter().sum::<usize>() >= plan.enough
    }

    fn chosen(mut self, plan: &Rehearsal) -> Vec<Candidate> {
        self.peaceful.append(&mut self.violating);
        if !plan.all {
            // one that violates no budget harms less
            self.peaceful.truncate(1);
        }
        self.peaceful.into_iter().map(|one| one.1).collect()
    }
}

/// Why a node is no candidate.
enum NoCandidate {
    /// No pod on it is of lower priority.
    NobodyLower,
    /// Not even with all of them gone. `Refusals` tell why, and where there are verdicts this one does.
    Refused(Verdict),
    /// It would do as it is.
    NobodyHasToGo,
}

/// A pod that may have to go.
struct Lower {
    pod: PodNumber,
    template: Id,
    priority: i64,
    started: i64,
    /// The more important, the earlier.
    rank: usize,
    /// Its going would violate a budget.
    is_protected: bool,
}

/// The smallest set of pods of lower priority that have to go. All are taken away and, if the pod fits then, put back
/// one by one as long as it still does.
fn victims(
    stage: &mut impl Stage,
    question: &Asked<'_>,
    slot: Slot,
    refusals: &mut Refusals,
) -> Result<Tried, NoCandidate> {
    let table = stage.table();
    let mut lower = by_importance(table, slot, question);
    if lower.is_empty() {
        return Err(NoCandidate::NobodyLower);
    }
    // those that have not started come after those that have only as long as these did so in the past
    let has_started = |one: &Lower| table.started(one.pod).is_none_or(|started| started < question.now);
    let is_lasting = lower.iter().all(has_started);
    let mut coming = Vec::new();
    table.nominations.coming(slot, question.yielding, &mut coming);
    put_in_order_of_reprieve(table, &mut lower);
    for one in &lower {
        stage.count(one.template, slot, -1);
    }
    let refused = with_and_without(stage, slot, &coming, |stage| stage.judge(slot, refusals));
    lower.retain(|one| {
        stage.count(one.template, slot, 1);
        if refused.is_some()
            || with_and_without(stage, slot, &coming, |stage| stage.objection(slot)).is_none()
        {
            return false;
        }
        stage.count(one.template, slot, -1);
        true
    });
    for one in &lower {
        stage.count(one.template, slot, 1);
    }
    if let Some(verdict) = refused {
        return Err(NoCandidate::Refused(verdict));
    }
    lower.sort_unstable_by_key(|one| one.rank);
    let Some(first) = lower.first() else { return Err(NoCandidate::NobodyHasToGo) };
    let violations = lower.iter().map(|one| u32::from(one.is_protected)).sum();
    // shifted so that more pods of a negative priority are not better than fewer
    let total: i64 = lower.iter().map(|one| one.priority + (1 << 31)).sum();
    // the most important come first, and of those of one priority who started first
    let harm = (violations, first.priority, total, lower.len(), Reverse(first.started));
    let victims = lower.into_iter().map(|one| one.pod).collect();
    Ok(Tried { candidate: Candidate { slot, victims, violations }, harm, is_lasting })
}

/// Those of lower priority on the node: higher priority first, then who started earlier, then whose key comes first.
fn by_importance(table: &Table, slot: Slot, question: &Asked<'_>) -> Vec<Lower> {
    let pods = table.pods_on(slot);
    let mut lower = Vec::with_capacity(pods.len());
    for &pod in pods {
        let template = table.template_of(pod);
        let priority = table.at(template).priority;
        if priority < question.wish.priority {
            let started = table.started(pod).unwrap_or(question.now);
            lower.push(Lower { pod, template, priority, started, rank: 0, is_protected: false });
        }
    }
    // a stable sort: they come in the order of their keys
    lower.sort_by_key(|one| (Reverse(one.priority), one.started));
    for (rank, one) in lower.iter_mut().enumerate() {
        one.rank = rank;
    }
    lower
}

/// First those whose going would violate a budget, each time the important ones first.
fn put_in_order_of_reprieve(table: &Table, pods: &mut [Lower]) {
    if table.budgets.is_empty() {
        return;
    }
    let mut used = Used::default();
    for one in pods.iter_mut() {
        let name = table.key_of(one.pod).rsplit('/').next().unwrap_or_default();
        one.is_protected = table.budgets.is_violated(table.set_of(one.pod), name, &mut used);
    }
    pods.sort_by_key(|one| !one.is_protected);
}

/// What is against the node, with those that are nominated to it or without.
fn with_and_without<S: Stage, T>(
    stage: &mut S,
    slot: Slot,
    coming: &[Id],
    mut ask: impl FnMut(&S) -> Option<T>,
) -> Option<T> {
    if !coming.is_empty() {
        coming.iter().for_each(|&one| stage.count(one, slot, 1));
        let refused = ask(stage);
        coming.iter().for_each(|&one| stage.count(one, slot, -1));
        if refused.is_some() {
            return refused;
        }
    }
    ask(stage)
}

/// Where it is tried what would be if pods of one node came or left.
trait Stage {
    fn table(&self) -> &Table;

    /// One pod of the template comes to the node (`by` is 1) or leaves it (-1).
    fn count(&mut self, template: Id, slot: Slot, by: i32);

    /// The first reason against the node as it is now, which is counted.
    fn judge(&self, slot: Slot, refusals: &mut Refusals) -> Option<Verdict>;

    /// The first reason against the node, of which there was none before, with other pods on it.
    fn objection(&self, slot: Slot) -> Option<Refusal>;
}

/// Of a pod to which only what is on the node itself matters. Nothing but `shift` is changed.
struct OnOneNode<'a> {
    table: &'a Table,
    question: Question<'a>,
    shift: Shift,
}

impl Stage for OnOneNode<'_> {
    fn table(&self) -> &Table {
        self.table
    }

    fn count(&mut self, template: Id, _: Slot, by: i32) {
        self.shift.count(self.table.at(template), by);
    }

    fn judge(&self, slot: Slot, refusals: &mut Refusals) -> Option<Verdict> {
        let refused = self.question.ask_shifted(slot, &self.shift)?;
        self.question.count(refusals, refused, slot, &self.shift);
        Some(self.question.verdict_of(refused, slot, &self.shift))
    }

    fn objection(&self, slot: Slot) -> Option<Refusal> {
        self.question.ask_again(slot, &self.shift)
    }
}

/// Of a pod to which those of other nodes matter, too: the table's own sums are changed, and set right again.
struct Anywhere<'a> {
    table: &'a mut Table,
    template: Id,
    filters: Vec<FilterPlugin>,
}

impl Anywhere<'_> {
    fn question(&self) -> Question<'_> {
        Question::new(self.table, self.table.at(self.template), &self.filters)
    }
}

impl Stage for Anywhere<'_> {
    fn table(&self) -> &Table {
        self.table
    }

    fn count(&mut self, template: Id, slot: Slot, by: i32) {
        self.table.count(template, slot, by);
    }

    fn judge(&self, slot: Slot, refusals: &mut Refusals) -> Option<Verdict> {
        let question = self.question();
        let refused = question.ask(slot)?;
        question.count(refusals, refused, slot, &UNMOVED);
        Some(question.verdict_of(refused, slot, &UNMOVED))
    }

    fn objection(&self, slot: Slot) -> Option<Refusal> {
        self.question().ask(slot)
    }
}
