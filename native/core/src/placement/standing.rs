//! How the nodes stand to pods of one template that fits nowhere: such pods come in numbers, and from one to the next few
//! nodes change. Of no use where pods of other nodes matter, too.

use std::collections::VecDeque;
use std::sync::Arc;

use super::filtering::{FilterPlugin, Question, Refusals, Verdict};
use super::nodes::Slot;
use super::placing::Wish;
use super::registry::Id;
use super::rehearsal::Memory;
use super::shift::Shift;
use super::table::Table;

/// How many templates are remembered at once. One takes some 64 bytes for each node.
const MOST: usize = 8;

/// What all nodes were found to be for pods of a template.
pub struct Standing {
    facts: Arc<[u8]>,
    priority: i64,
    filters: Vec<FilterPlugin>,
    order: Arc<[Slot]>,
    /// Where the table's journal ended.
    seen: u64,
    /// By slot.
    verdicts: Vec<Verdict>,
    /// What rehearsals found, by slot.
    memories: Vec<Memory>,
    /// How many nodes would do.
    fitting: usize,
    refusals: Refusals,
    /// Nodes that preemption might help on; None until somebody wants to know.
    crowded: Option<Arc<Vec<Slot>>>,
}

impl Standing {
    fn new(
        table: &Table,
        template: Id,
        wish: &Wish<'_>,
        question: &Question<'_>,
        order: Arc<[Slot]>,
    ) -> Self {
        let mut standing = Self {
            facts: Arc::clone(table.facts_of(template)),
            priority: wish.priority,
            filters: question.filters().to_vec(),
            order: Arc::clone(&order),
            seen: table.journal.now(),
            verdicts: vec![Verdict::default(); table.nodes.len()],
            memories: Vec::new(),
            fitting: order.len(),
            refusals: Refusals::default(),
            crowded: None,
        };
        standing.memories.resize_with(table.nodes.len(), Memory::default);
        standing.judge(table, template, wish, question, &order);
        standing
    }

    fn is_of(&self, facts: &Arc<[u8]>, wish: &Wish<'_>) -> bool {
        Arc::ptr_eq(&self.facts, facts) && self.priority == wish.priority
    }

    /// False where it is not worth it, or something else is asked of all nodes.
    fn catch_up(&mut self, table: &Table, template: Id, wish: &Wish<'_>, question: &Question<'_>) -> bool {
        if question.filters() != self.filters || self.verdicts.len() != table.nodes.len() {
            return false;
        }
        let Some(changed) = table.journal.since(self.seen) else { return false };
        self.judge(table, template, wish, question, changed);
        for &slot in changed {
            self.memories[slot] = Memory::Unknown;
        }
        self.seen = table.journal.now();
        true
    }

    fn judge(
        &mut self,
        table: &Table,
        template: Id,
        wish: &Wish<'_>,
        question: &Question<'_>,
        slots: &[Slot],
    ) {
        let yielding = table.nominations.yielding(wish.uid, wish.priority);
        let (mut coming, mut shift) = (Vec::new(), Shift::default());
        let template = table.at(template);
        for &slot in slots {
            // what is known by its pods only is no node, and in no order
            if table.nodes.facts[slot].is_none() {
                continue;
            }
            coming.clear();
            table.nominations.coming(slot, yielding, &mut coming);
            let now = question.verdict(slot, &coming, &mut shift);
            let before = std::mem::replace(&mut self.verdicts[slot], now);
            if before == now {
                continue;
            }
            self.refusals.count(before, template, -1);
            self.refusals.count(now, template, 1);
            self.fitting += usize::from(now.refusal.is_none());
            self.fitting -= usize::from(before.refusal.is_none());
            if before.may_help() != now.may_help() {
                self.crowded = None;
            }
        }
    }

    /// No node would do.
    pub fn refuses_all(&self) -> bool {
        self.fitting == 0
    }

    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Those on which preemption might help.
    pub fn crowded(&mut self) -> Arc<Vec<Slot>> {
        let (order, verdicts) = (&self.order, &self.verdicts);
        let crowded = self.crowded.get_or_insert_with(|| {
            Arc::new(order.iter().copied().filter(|&slot| verdicts[slot].may_help()).collect())
        });
        Arc::clone(crowded)
    }

    /// What rehearsals found, by slot.
    pub fn memories(&mut self) -> &mut [Memory] {
        &mut self.memories
    }
}

/// The templates that fitted nowhere lately, the last one last; whose pods fit again is forgotten when others come.
#[derive(Default)]
pub struct Standings {
    known: Vec<Standing>,
    /// Those of which one pod was looked for a node for in vain among all.
    once: VecDeque<Arc<[u8]>>,
}

impl Standings {
    /// A pod with these facts fits nowhere. What is learnt by it is kept when there is a second one.
    pub fn refused(&mut self, facts: &Arc<[u8]>) {
        if !self.was_refused(facts) {
            self.once.truncate(MOST - 1);
            self.once.push_front(Arc::clone(facts));
        }
    }

    fn was_refused(&self, facts: &Arc<[u8]>) -> bool {
        self.once.iter().any(|one| Arc::ptr_eq(one, facts))
    }

    /// As things are now. None where nothing is to be remembered of such pods, or nothing is yet.
    pub fn of(
        &mut self,
        table: &Table,
        template: Id,
        wish: &Wish<'_>,
        question: &Question<'_>,
        order: Arc<[Slot]>,
    ) -> Option<&mut Standing> {
        let facts = table.facts_of(template);
        let is_common = table.nominations.yielding(wish.uid, wish.priority).is_common();
        if order.is_empty() || !is_common || !question.has_verdicts() {
            return None;
        }
        let place = self.known.iter().position(|one| one.is_of(facts, wish));
        let known = place.map(|place| self.known.remove(place));
        let known = known.filter(|one| Arc::ptr_eq(&one.order, &order));
        let current = known.and_then(|mut one| one.catch_up(table, template, wish, question).then_some(one));
        let standing = match current {
            Some(one) => one,
            None if self.was_refused(facts) => Standing::new(table, template, wish, question, order),
            None => return None,
        };
        if self.known.len() >= MOST {
            self.known.remove(0);
        }
        self.known.push(standing);
        self.known.last_mut()
    }
}
