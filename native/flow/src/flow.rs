//! What is in force: flow schemas in order, the levels that they lead to, and who lends seats to whom.
//!
//! Source: apiserver `pkg/util/flowcontrol/apf_controller.go`.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::{HeaderMap, HeaderValue};
use kubecore_core::authn::UserInfo;
use kubecore_core::edition;
use kubecore_core::rbac::Attributes;
use parking_lot::Mutex;

use crate::allocation::{Share, allot};
use crate::classify::{Asked, distinguisher};
use crate::dealing::Hand;
use crate::level::{Arrival, Level, Limits, Queuing, Start};
use crate::objects::{LevelSpec, Object, Objects, SchemaSpec};
use crate::watches::Watches;
use crate::work::{Estimate, nanoseconds};

/// How often seats go to where they are needed.
pub const PERIOD: Duration = Duration::from_secs(10);

/// Of a level's seats, what a single request may take at most.
const MOST_OF_A_LEVEL: f64 = 0.15;

/// A flow schema in force.
pub struct Schema<A> {
    pub name: Arc<str>,
    spec: SchemaSpec,
    pub level: Arc<Level<A>>,
    /// The values of the headers that tell clients of it.
    pub uid: HeaderValue,
    pub level_uid: HeaderValue,
    /// What most answers to its requests begin with, for whoever makes them.
    pub headers: OnceLock<HeaderMap>,
    slot: usize,
    queuing: Queuing,
    tells_flows_apart: bool,
    /// Seats that a request may take; 0: nothing said.
    most: u32,
}

/// A level in force, or one that is not wanted any more and has requests left.
pub(crate) struct Kept<A> {
    pub level: Arc<Level<A>>,
    spec: LevelSpec,
    pub quiescing: bool,
}

pub(crate) struct Table<A> {
    schemas: Vec<Arc<Schema<A>>>,
    pub levels: Vec<Kept<A>>,
    nominal: u32,
    /// Its edition.
    number: u64,
}

/// What a request is thought to cost; of a write, how many watchers will hear of it.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub estimate: Estimate,
    pub watchers: Option<u32>,
}

/// A request has come to a level.
pub struct Admitted<A> {
    pub schema: Arc<Schema<A>>,
    pub start: Start,
}

/// Which schema requests of one user for one thing belong to, and the queues of their flow, for as long as what is in
/// force stays.
pub struct Class<A> {
    table: u64,
    schema: Arc<Schema<A>>,
    hand: Hand,
}

pub struct Flow<A> {
    pub(crate) table: ArcSwapOption<Table<A>>,
    /// The table's number, for who need not look into it; 0: there is none.
    in_force: AtomicU64,
    objects: Mutex<Option<Objects>>,
    /// Keyed, so that nobody finds names whose flows share their queues with another's.
    hasher: RandomState,
    /// The bits of the proportion in which levels last got seats.
    fair: AtomicU64,
    /// When seats are to be shared out, in nanoseconds.
    due: AtomicU64,
    pub watches: Arc<Watches>,
}

impl<A> Default for Flow<A> {
    fn default() -> Self {
        Self {
            table: ArcSwapOption::empty(),
            in_force: AtomicU64::new(0),
            objects: Mutex::default(),
            hasher: RandomState::new(),
            fair: AtomicU64::new(0),
            due: AtomicU64::new(nanoseconds(PERIOD)),
            watches: Arc::default(),
        }
    }
}

impl<A: Asked> Flow<A> {
    pub fn is_on(&self) -> bool {
        self.in_force.load(Ordering::Acquire) != 0
    }

    /// Which of the schemas matches first; the last one is for all that none does. None while nothing is in force.
    pub fn classify(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Option<Class<A>> {
        let table = self.table.load();
        let table = table.as_ref()?;
        let matching = table.schemas.iter().find(|schema| schema.spec.matches(user, attributes));
        let schema = matching.or(table.schemas.last())?.clone();
        let flow = if schema.tells_flows_apart { self.flow_of(&schema, user, attributes) } else { 0 };
        let hand = match schema.queuing {
            Queuing::Queue { queues, hand, .. } => Hand::deal(flow, queues, hand),
            Queuing::Exempt | Queuing::Reject => Hand::deal(flow, 0, 0),
        };
        Some(Class { table: table.number, schema, hand })
    }

    /// None once something else is in force.
    pub fn schema_of<'a>(&self, class: &'a Class<A>) -> Option<&'a Arc<Schema<A>>> {
        (self.in_force.load(Ordering::Acquire) == class.table).then_some(&class.schema)
    }

    /// `cost` is told how many seats a request may take there.
    pub fn admit(
        &self,
        now: Duration,
        asked: A,
        class: &Class<A>,
        cost: impl FnOnce(&A, u32) -> Cost,
    ) -> Admitted<A> {
        self.keep_up(now);
        let Class { schema, hand, .. } = class;
        let Cost { estimate, watchers } = cost(&asked, schema.most);
        let start = schema.level.start(now, asked, Arrival { slot: schema.slot, hand, estimate, watchers });
        Admitted { schema: schema.clone(), start }
    }

    fn flow_of(&self, schema: &Schema<A>, user: &UserInfo, attributes: &Attributes<'_>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(schema.name.as_bytes());
        hasher.write_u8(0xff);
        hasher.write(distinguisher(schema.spec.distinguisher_method, user, attributes).as_bytes());
        hasher.finish()
    }

    /// What distinguishes the flow of a request of the schema of that name.
    pub(crate) fn distinguisher<'a>(&self, schema: &str, asked: &'a A) -> &'a str {
        let table = self.table.load();
        let schemas = table.as_ref().map_or(&[][..], |table| &table.schemas);
        let method =
            schemas.iter().find(|one| &*one.name == schema).and_then(|one| one.spec.distinguisher_method);
        distinguisher(method, asked.user(), &asked.attributes())
    }

    /// Other objects are in force from now on. Levels of the same name keep their queues.
    pub fn configure(&self, now: Duration, objects: Objects) {
        let mut held = self.objects.lock();
        self.put_in_force(now, &objects);
        *held = Some(objects);
    }

    /// Once a period has ended, what levels needed is looked at, and seats go to where they are needed. Whoever comes
    /// or waits sees to it, so that nothing has to be done while nobody does.
    pub fn keep_up(&self, now: Duration) {
        let due = self.due.load(Ordering::Relaxed);
        if nanoseconds(now) >= due {
            self.catch_up(now, due);
        }
    }

    #[cold]
    fn catch_up(&self, now: Duration, due: u64) {
        // Whole milliseconds count.
        let next = nanoseconds(Duration::from_millis(now.as_millis() as u64) + PERIOD);
        if self.due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.adjust(now);
        }
    }

    fn adjust(&self, now: Duration) {
        let held = self.objects.lock();
        let Some(table) = self.table.load_full() else { return };
        let is_left = |kept: &Kept<A>| kept.quiescing && kept.level.is_idle();
        match &*held {
            Some(objects) if table.levels.iter().any(is_left) => self.put_in_force(now, objects),
            _ => self.share_out(now, &table),
        }
    }

    fn put_in_force(&self, now: Duration, objects: &Objects) {
        let former = self.table.load_full();
        let mut levels = kept_levels(now, objects, former.as_deref());
        let shares: u32 = levels.iter().map(|kept| kept.spec.shares()).sum();
        let mut nominal = 0;
        for kept in &mut levels {
            let limits = limits(&kept.spec, objects.seats, shares, kept.level.limits());
            nominal += limits.nominal;
            kept.level.configure(now, kept.spec.queuing(), limits);
        }
        let schemas = schemas(objects, &levels);
        let number = edition::next();
        let table = Arc::new(Table { schemas, levels, nominal, number });
        self.share_out(now, &table);
        self.table.store(Some(table));
        self.in_force.store(number, Ordering::Release);
    }

    /// Seats that are not needed at one level are given to others, within the bounds of both.
    fn share_out(&self, now: Duration, table: &Table<A>) {
        let measured: Vec<Limits> = table.levels.iter().map(|kept| kept.level.measure(now, PERIOD)).collect();
        let is_exempt = |index: usize| table.levels[index].spec.is_exempt();
        // What has been needed lately is not taken away, unless an exempt level has it.
        let least = |index: usize| {
            let (limits, peak) = (&measured[index], measured[index].demand.peak as u32);
            limits.lower.max(if is_exempt(index) { peak } else { peak.min(limits.nominal) })
        };
        let limited: Vec<usize> = (0..measured.len()).filter(|index| !is_exempt(*index)).collect();
        let total = |of: &dyn Fn(usize) -> u32| limited.iter().map(|index| of(*index)).sum::<u32>();
        let (lower, needed) = (total(&|index| measured[index].lower), total(&least));
        let exempt: u32 = (0..measured.len()).filter(|index| is_exempt(*index)).map(least).sum();
        let left = table.nominal.saturating_sub(exempt);
        let target = |index: usize| f64::from(least(index)).max(measured[index].demand.smoothed);
        let shares: Vec<Share> = limited
            .iter()
            .map(|index| {
                let (lower, upper) = (f64::from(least(*index)), f64::from(measured[*index].upper));
                Share { lower, upper: upper.max(lower), target: target(*index) }
            })
            .collect();
        let mut fair = 0.0;
        let current: Vec<u32> = if left <= lower {
            limited.iter().map(|index| measured[*index].lower).collect()
        } else if left <= needed {
            let part = f64::from(left - lower) / f64::from(needed - lower);
            let more = |index: usize| (f64::from(least(index) - measured[index].lower) * part).round() as u32;
            limited.iter().map(|index| measured[*index].lower + more(*index)).collect()
        } else if let Some((seats, proportion)) = allot(f64::from(table.nominal), &shares) {
            fair = proportion;
            seats.iter().map(|seats| seats.round() as u32).collect()
        } else {
            limited.iter().map(|index| measured[*index].current).collect()
        };
        self.fair.store(f64::to_bits(fair), Ordering::Relaxed);
        for index in (0..measured.len()).filter(|index| is_exempt(*index)) {
            table.levels[index].level.limit(now, least(index), target(index));
        }
        for (index, current) in limited.iter().zip(current) {
            table.levels[*index].level.limit(now, current, target(*index));
        }
    }

    pub(crate) fn fair_fraction(&self) -> f64 {
        f64::from_bits(self.fair.load(Ordering::Relaxed))
    }
}

/// Those that are wanted, then those that are not and have requests left.
fn kept_levels<A: Asked>(now: Duration, objects: &Objects, former: Option<&Table<A>>) -> Vec<Kept<A>> {
    let known = former.map_or(&[][..], |table| &table.levels);
    let mut levels = Vec::new();
    for Object { name, spec, .. } in &objects.levels {
        let held = known.iter().find(|kept| *kept.level.name == **name).map(|kept| kept.level.clone());
        let level = held.unwrap_or_else(|| Arc::new(Level::new(name, spec.queuing(), now)));
        levels.push(Kept { level, spec: spec.clone(), quiescing: false });
    }
    for kept in known {
        let is_wanted = objects.levels.iter().any(|object| *object.name == *kept.level.name);
        if !is_wanted && !kept.level.is_idle() {
            levels.push(Kept { level: kept.level.clone(), spec: kept.spec.clone(), quiescing: true });
        }
    }
    levels
}

/// A level's part of the seats of all, rounded up, and how far it lends and borrows.
fn limits(spec: &LevelSpec, seats: u32, shares: u32, held: Limits) -> Limits {
    let part = f64::from(spec.shares()) / f64::from(shares.max(1));
    let nominal = (f64::from(seats) * part).ceil() as u32;
    let percent = |of: u32| (f64::from(nominal) * f64::from(of) / 100.0).round() as u32;
    let lendable = percent(spec.lendable_percent());
    let borrowed = spec.borrowing_limit_percent().map_or(seats, percent);
    let (lower, upper) = (nominal.saturating_sub(lendable), nominal + borrowed);
    let is_new = held.upper == 0;
    let current = if is_new { nominal - lendable.min(nominal) / 2 } else { held.current };
    Limits { nominal, lower, upper, current, ..held }
}

/// In the order in which they are asked; those that lead nowhere are left out.
fn schemas<A: Asked>(objects: &Objects, levels: &[Kept<A>]) -> Vec<Arc<Schema<A>>> {
    let mut sorted: Vec<&Object<SchemaSpec>> = objects.schemas.iter().collect();
    sorted.sort_by(|a, b| (a.spec.matching_precedence, &a.name).cmp(&(b.spec.matching_precedence, &b.name)));
    let mut schemas = Vec::new();
    for Object { name, uid, spec } in sorted {
        let wanted = &spec.priority_level_configuration.name;
        let Some(kept) = levels.iter().find(|kept| !kept.quiescing && *kept.level.name == **wanted) else {
            continue;
        };
        let slot = kept.level.slot(name);
        let object = objects.levels.iter().find(|level| level.name == *wanted);
        schemas.push(Arc::new(Schema {
            name: name.as_str().into(),
            spec: spec.clone(),
            level: kept.level.clone(),
            uid: header(uid),
            level_uid: header(object.map_or("", |level| &level.uid)),
            headers: OnceLock::new(),
            slot,
            queuing: kept.spec.queuing(),
            tells_flows_apart: matches!(kept.spec.queuing(), Queuing::Queue { queues, .. } if queues > 1),
            most: most_seats(&kept.spec, kept.level.limits().nominal),
        }));
    }
    schemas
}

/// At least one seat, at most what a hand of queues could all have at once.
fn most_seats(spec: &LevelSpec, nominal: u32) -> u32 {
    let Queuing::Queue { hand, .. } = spec.queuing() else { return 0 };
    let part = (f64::from(nominal) * MOST_OF_A_LEVEL).ceil() as u32;
    part.min(nominal / u32::try_from(hand).unwrap_or(u32::MAX)).max(1)
}

fn header(uid: &str) -> HeaderValue {
    HeaderValue::try_from(uid).unwrap_or_else(|_| HeaderValue::from_static(""))
}
