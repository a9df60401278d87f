//! Watchers that wait for an event, found by what they wait for, so that an event wakes those alone whom it may concern.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use rustc_hash::{FxHashMap, FxHashSet};

use super::filter::{Field, Filter};
use super::history::{Event, Previous};
use super::object::Object;

/// A field and the value that every object of a watch has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Trigger {
    field: Field,
    value: Box<str>,
}

impl Trigger {
    /// The one that sets a watch with `filter` best apart from others; None: any event may concern it.
    pub fn for_filter(filter: &Filter) -> Option<Self> {
        let required = |field| filter.required(field).map(|value| Self { field, value: value.into() });
        let selectable = || {
            let mut terms = filter.fields().iter().filter(|term| !term.negated);
            let term = terms.find(|term| matches!(term.field, Field::Selectable(_)))?;
            Some(Self { field: term.field, value: term.value.clone() })
        };
        let namespace =
            || filter.namespace().map(|value| Self { field: Field::Namespace, value: value.into() });
        required(Field::Name).or_else(selectable).or_else(namespace)
    }
}

/// Shared by a waiting watcher and the list it waits in.
#[derive(Debug)]
pub struct Ticket {
    number: u64,
    /// The first event that may concern the watcher; IDLE while there has been none.
    resume: AtomicU64,
}

const IDLE: u64 = u64::MAX;

impl Ticket {
    /// The event the watcher was woken for.
    pub fn resume(&self) -> Option<u64> {
        Some(self.resume.load(Ordering::Acquire)).filter(|at| *at != IDLE)
    }
}

type Group = FxHashMap<u64, (Arc<Ticket>, Waker)>;

/// Held under the resource's lock, so that a ticket that is IDLE proves that nothing has happened for its watcher.
#[derive(Default)]
pub struct Waiters {
    any: Group,
    by_trigger: FxHashMap<Trigger, Group>,
    /// The fields there are triggers for.
    fields: FxHashSet<Field>,
    tickets: u64,
}

impl Waiters {
    pub fn wait(&mut self, trigger: Option<&Trigger>, waker: &Waker) -> Arc<Ticket> {
        self.tickets += 1;
        let ticket = Arc::new(Ticket { number: self.tickets, resume: AtomicU64::new(IDLE) });
        let entry = (Arc::clone(&ticket), waker.clone());
        match trigger {
            None => drop(self.any.insert(self.tickets, entry)),
            Some(trigger) => {
                self.fields.insert(trigger.field);
                self.by_trigger.entry(trigger.clone()).or_default().insert(self.tickets, entry);
            }
        }
        ticket
    }

    /// The same wait on behalf of another task.
    pub fn rewake(&mut self, trigger: Option<&Trigger>, ticket: &Ticket, waker: &Waker) {
        let group = match trigger {
            None => Some(&mut self.any),
            Some(trigger) => self.by_trigger.get_mut(trigger),
        };
        if let Some((_, known)) = group.and_then(|group| group.get_mut(&ticket.number)) {
            known.clone_from(waker);
        }
    }

    pub fn leave(&mut self, trigger: Option<&Trigger>, ticket: &Ticket) {
        let Some(trigger) = trigger else {
            self.any.remove(&ticket.number);
            return;
        };
        if let Some(group) = self.by_trigger.get_mut(trigger) {
            group.remove(&ticket.number);
            if group.is_empty() {
                self.by_trigger.remove(trigger);
            }
        }
    }

    /// Takes out those whom event number `at` may concern.
    pub fn concerned(&mut self, event: &Event, at: u64, woken: &mut Vec<Waker>) {
        release(self.any.drain(), at, woken);
        if self.by_trigger.is_empty() {
            self.fields.clear();
            return;
        }
        let previous = match event.previous() {
            Previous::Known(previous) => Some(&**previous),
            Previous::Absent | Previous::Unknown => None,
        };
        let fields: Vec<Field> = self.fields.iter().copied().collect();
        for field in fields {
            for object in [Some(&**event.object()), previous].into_iter().flatten() {
                self.trigger(field, object, at, woken);
            }
        }
        if matches!(event.previous(), Previous::Unknown) {
            self.everybody(at, woken);
        }
    }

    fn trigger(&mut self, field: Field, object: &Object, at: u64, woken: &mut Vec<Waker>) {
        let trigger = Trigger { field, value: field.read(object).into() };
        if let Some(group) = self.by_trigger.remove(&trigger) {
            release(group.into_iter(), at, woken);
        }
    }

    /// Takes out all of them, when there is something to tell that is no event.
    pub fn everybody(&mut self, at: u64, woken: &mut Vec<Waker>) {
        release(self.any.drain(), at, woken);
        self.by_trigger.drain().for_each(|(_, group)| release(group.into_iter(), at, woken));
    }
}

fn release(group: impl Iterator<Item = (u64, (Arc<Ticket>, Waker))>, at: u64, woken: &mut Vec<Waker>) {
    for (_, (ticket, waker)) in group {
        ticket.resume.store(at, Ordering::Release);
        woken.push(waker);
    }
}
