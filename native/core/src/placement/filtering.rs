//! Which nodes can take a pod, and why the others cannot. Plugin names and reasons are kube-scheduler's.

use serde::Deserialize;

use super::nodes::{NO_VALUE, Slot};
use super::population::{Carriers, Claim};
use super::registry::Id;
use super::shift::{Shift, UNMOVED};
use super::table::Table;
use super::template::{Hard, Template, Term};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
pub enum FilterPlugin {
    NodeUnschedulable,
    NodeName,
    TaintToleration,
    NodeAffinity,
    NodePorts,
    NodeResourcesFit,
    PodTopologySpread,
    InterPodAffinity,
}

/// Why a node is refused; resources that are short are told apart by `Refusals`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Cordoned,
    OtherName,
    Tainted,
    NotChosen,
    PortTaken,
    NoRoom,
    NoSpreadLabel,
    Skewed,
    NotNear,
    TooNear,
    KeptOff,
}

impl Refusal {
    /// It holds whatever pods leave the node. (Of resources that are short `Question::is_hopeless` tells.)
    fn is_hopeless(self) -> bool {
        use Refusal::{Cordoned, NoSpreadLabel, NotChosen, NotNear, OtherName, Tainted};
        matches!(self, Cordoned | OtherName | Tainted | NotChosen | NoSpreadLabel | NotNear)
    }
}

const REASONS: [(FilterPlugin, &str); 11] = [
    (FilterPlugin::NodeUnschedulable, "node(s) were unschedulable"),
    (FilterPlugin::NodeName, "node(s) didn't match the requested node name"),
    (FilterPlugin::TaintToleration, "node(s) had untolerated taint(s)"),
    (FilterPlugin::NodeAffinity, "node(s) didn't match Pod's node affinity/selector"),
    (FilterPlugin::NodePorts, "node(s) didn't have free ports for the requested pod ports"),
    (FilterPlugin::NodeResourcesFit, ""),
    (
        FilterPlugin::PodTopologySpread,
        "node(s) didn't match pod topology spread constraints (missing required label)",
    ),
    (FilterPlugin::PodTopologySpread, "node(s) didn't match pod topology spread constraints"),
    (FilterPlugin::InterPodAffinity, "node(s) didn't match pod affinity rules"),
    (FilterPlugin::InterPodAffinity, "node(s) didn't match pod anti-affinity rules"),
    (FilterPlugin::InterPodAffinity, "node(s) didn't satisfy existing pods anti-affinity rules"),
];

impl FilterPlugin {
    pub fn name(self) -> &'static str {
        match self {
            Self::NodeUnschedulable => "NodeUnschedulable",
            Self::NodeName => "NodeName",
            Self::TaintToleration => "TaintToleration",
            Self::NodeAffinity => "NodeAffinity",
            Self::NodePorts => "NodePorts",
            Self::NodeResourcesFit => "NodeResourcesFit",
            Self::PodTopologySpread => "PodTopologySpread",
            Self::InterPodAffinity => "InterPodAffinity",
        }
    }

    /// It looks at the pods of the node, and not at the node alone.
    fn is_of_pods(self) -> bool {
        use FilterPlugin::{InterPodAffinity, NodePorts, NodeResourcesFit, PodTopologySpread};
        matches!(self, NodePorts | NodeResourcesFit | PodTopologySpread | InterPodAffinity)
    }
}

/// How many nodes were refused for what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    by_reason: [u32; REASONS.len()],
    too_many_pods: u32,
    insufficient: Vec<u32>,
}

/// One line of a diagnosis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    pub plugin: &'static str,
    pub reason: String,
    pub nodes: u32,
}

/// Of a template's requests, by a verdict.
const MOST_TOLD_APART: usize = u64::BITS as usize;

/// What was said of one node, with all that `Refusals` count of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// None: the node would do.
    pub refusal: Option<Refusal>,
    /// Preemption cannot help there.
    pub is_hopeless: bool,
    is_full: bool,
    /// A bit for each of the template's requests that there is no room for.
    short: u64,
}

impl Verdict {
    /// The node is refused for what pods that leave may take away.
    pub fn may_help(self) -> bool {
        self.refusal.is_some() && !self.is_hopeless
    }
}

impl Refusals {
    /// Counts (`by` is 1) or does not count any more (-1) what was said of a node about a pod of the template, of which
    /// a verdict must be possible.
    pub fn count(&mut self, verdict: Verdict, template: &Template, by: i32) {
        let Some(refusal) = verdict.refusal else { return };
        let add = |count: &mut u32| *count = count.wrapping_add_signed(by);
        add(&mut self.by_reason[refusal as usize]);
        if verdict.is_full {
            add(&mut self.too_many_pods);
        }
        for (place, &(resource, _)) in template.requests.iter().enumerate() {
            if verdict.short & (1 << place) != 0 {
                if self.insufficient.len() <= resource {
                    self.insufficient.resize(resource + 1, 0);
                }
                add(&mut self.insufficient[resource]);
            }
        }
    }

    fn add(&mut self, refusal: Refusal, table: &Table, template: &Template, slot: Slot, shift: &Shift) {
        self.by_reason[refusal as usize] += 1;
        if refusal != Refusal::NoRoom {
            return;
        }
        self.too_many_pods += u32::from(is_full(table, slot, shift));
        self.insufficient.resize(table.nodes.resources.len(), 0);
        for &(resource, wanted) in &template.requests {
            self.insufficient[resource] += u32::from(is_short(table, resource, wanted, slot, shift));
        }
    }

    pub fn counted(&self, table: &Table) -> Vec<Counted> {
        let mut lines = Vec::new();
        let mut tell = |plugin: FilterPlugin, reason: String, nodes: u32| {
            if nodes > 0 {
                lines.push(Counted { plugin: plugin.name(), reason, nodes });
            }
        };
        for (&(plugin, reason), &nodes) in REASONS.iter().zip(&self.by_reason) {
            if !reason.is_empty() {
                tell(plugin, reason.to_owned(), nodes);
            }
        }
        let fit = FilterPlugin::NodeResourcesFit;
        tell(fit, "Too many pods".to_owned(), self.too_many_pods);
        for (resource, &nodes) in table.nodes.resources.iter().zip(&self.insufficient) {
            tell(fit, format!("Insufficient {}", resource.name), nodes);
        }
        lines
    }
}

fn is_full(table: &Table, slot: Slot, shift: &Shift) -> bool {
    i64::from(table.nodes.pods[slot]) + shift.pods() + 1 > table.nodes.most_pods[slot]
}

fn is_short(table: &Table, number: usize, wanted: i64, slot: Slot, shift: &Shift) -> bool {
    let resource = &table.nodes.resources[number];
    let requested = resource.requested[slot].wrapping_add(shift.requested(number));
    wanted > 0 && wanted > resource.allocatable[slot].wrapping_sub(requested)
}

/// What of one pod has to be asked of each node, with all sums that are the same for every node worked out.
pub struct Question<'a> {
    table: &'a Table,
    template: &'a Template,
    filters: Vec<FilterPlugin>,
    spread: Vec<Allowed<'a>>,
    keep_off: Vec<(usize, &'a Carriers)>,
    /// No pod anywhere fulfils the affinity, and the pod fulfils it itself: any node with the labels will do.
    is_first: bool,
}

struct Allowed<'a> {
    hard: &'a Hard,
    pods: &'a [u32],
    /// The most matching pods that may be in the domain already.
    most: i64,
}

impl<'a> Question<'a> {
    pub fn new(table: &'a Table, template: &'a Template, filters: &[FilterPlugin]) -> Self {
        let has = |plugin| filters.contains(&plugin);
        let mut question = Self {
            table,
            template,
            filters: Vec::new(),
            spread: Vec::new(),
            keep_off: Vec::new(),
            is_first: false,
        };
        if has(FilterPlugin::PodTopologySpread) {
            question.spread = template.hard.iter().map(|hard| allowed(table, hard)).collect();
        }
        if has(FilterPlugin::InterPodAffinity) {
            question.look_around();
        }
        question.filters = filters.iter().copied().filter(|&plugin| question.has_to_ask(plugin)).collect();
        question
    }

    fn look_around(&mut self) {
        let population = &self.table.population;
        let wanted_by = population.sets[self.template.set].wanted_by.iter();
        let keep_off = wanted_by.filter_map(|&id| {
            let (term, carriers) = (population.carried.key(id), &population.carried[id]);
            (term.claim == Claim::KeepOff && carriers.total > 0).then_some((term.column, carriers))
        });
        self.keep_off = keep_off.collect();
        let nobody = |term: &Term| population.domains[term.domain].total == 0;
        self.is_first = self.template.fulfils_itself && self.template.affinity.iter().all(nobody);
    }

    fn has_to_ask(&self, plugin: FilterPlugin) -> bool {
        let template = self.template;
        match plugin {
            FilterPlugin::NodeUnschedulable => !template.tolerates_cordon,
            FilterPlugin::NodeName => !template.node_name.is_empty(),
            FilterPlugin::TaintToleration | FilterPlugin::NodeResourcesFit => true,
            FilterPlugin::NodeAffinity => template.chooses_nodes,
            FilterPlugin::NodePorts => !template.ports.is_empty(),
            FilterPlugin::PodTopologySpread => !self.spread.is_empty(),
            FilterPlugin::InterPodAffinity => {
                let asks = !template.affinity.is_empty() || !template.anti_affinity.is_empty();
                asks || !self.keep_off.is_empty()
            }
        }
    }

    /// The plugins that have anything to ask.
    pub fn filters(&self) -> &[FilterPlugin] {
        &self.filters
    }

    /// No pod elsewhere matters, so that `ask_shifted` may be asked what would be with other pods on the node.
    pub fn is_of_one_node(&self) -> bool {
        !self
            .filters
            .iter()
            .any(|plugin| matches!(plugin, FilterPlugin::PodTopologySpread | FilterPlugin::InterPodAffinity))
    }

    /// Whether there are verdicts about such a pod: only the node itself matters, and what it asks for can be told
    /// apart.
    pub fn has_verdicts(&self) -> bool {
        self.is_of_one_node() && self.template.requests.len() <= MOST_TOLD_APART
    }

    /// What `ask_expecting` says, with all that is counted of it.
    pub fn verdict(&self, slot: Slot, coming: &[Id], shift: &mut Shift) -> Verdict {
        let refusal = self.ask_expecting(slot, coming, shift);
        refusal.map_or_else(Verdict::default, |refusal| self.verdict_of(refusal, slot, shift))
    }

    /// With all that is counted of a refusal.
    pub fn verdict_of(&self, refusal: Refusal, slot: Slot, shift: &Shift) -> Verdict {
        let is_hopeless = self.is_hopeless(refusal, slot);
        let mut verdict = Verdict { refusal: Some(refusal), is_hopeless, ..Verdict::default() };
        if refusal == Refusal::NoRoom {
            verdict.is_full = is_full(self.table, slot, shift);
            // those beyond are told apart by nobody who uses verdicts
            for (place, &(resource, wanted)) in
                self.template.requests.iter().take(MOST_TOLD_APART).enumerate()
            {
                verdict.short |= u64::from(is_short(self.table, resource, wanted, slot, shift)) << place;
            }
        }
        verdict
    }

    /// The first reason against the node, with pods of these templates on it or without; only where the question is of
    /// one node, or no pods are `coming`. `shift` is what is thought of the node then.
    pub fn ask_expecting(&self, slot: Slot, coming: &[Id], shift: &mut Shift) -> Option<Refusal> {
        shift.clear();
        if !coming.is_empty() {
            coming.iter().for_each(|&one| shift.count(self.table.at(one), 1));
            let refused = self.ask_shifted(slot, shift);
            if refused.is_some() {
                return refused;
            }
            shift.clear();
        }
        self.ask(slot)
    }

    /// The first reason against the node.
    pub fn ask(&self, slot: Slot) -> Option<Refusal> {
        self.ask_shifted(slot, &UNMOVED)
    }

    /// Likewise, if the pods of the node were others; only where the question is of one node.
    pub fn ask_shifted(&self, slot: Slot, shift: &Shift) -> Option<Refusal> {
        self.filters.iter().find_map(|&plugin| self.ask_plugin(plugin, slot, shift))
    }

    /// `ask_shifted` about a node that had nothing against the pod while other pods were on it.
    pub fn ask_again(&self, slot: Slot, shift: &Shift) -> Option<Refusal> {
        let of_pods = self.filters.iter().filter(|plugin| plugin.is_of_pods());
        of_pods.copied().find_map(|plugin| self.ask_plugin(plugin, slot, shift))
    }

    pub fn count(&self, refusals: &mut Refusals, refusal: Refusal, slot: Slot, shift: &Shift) {
        refusals.add(refusal, self.table, self.template, slot, shift);
    }

    /// Whether preemption cannot help on the node that was refused for this.
    pub fn is_hopeless(&self, refusal: Refusal, slot: Slot) -> bool {
        let never = |&(resource, wanted): &(usize, i64)| {
            wanted > 0 && wanted > self.table.nodes.resources[resource].allocatable[slot]
        };
        refusal.is_hopeless() || (refusal == Refusal::NoRoom && self.template.requests.iter().any(never))
    }

    fn ask_plugin(&self, plugin: FilterPlugin, slot: Slot, shift: &Shift) -> Option<Refusal> {
        let (nodes, template) = (&self.table.nodes, self.template);
        let rules = &self.table.population.rules;
        let refused = |is: bool, refusal: Refusal| is.then_some(refusal);
        match plugin {
            FilterPlugin::NodeUnschedulable => {
                let cordoned =
                    nodes.guarded[slot] && nodes.facts[slot].as_ref().is_some_and(|one| one.unschedulable);
                refused(cordoned, Refusal::Cordoned)
            }
            FilterPlugin::NodeName => refused(*nodes.names[slot] != *template.node_name, Refusal::OtherName),
            FilterPlugin::TaintToleration => {
                let tolerates = || rules[template.rule].tolerates(rules.key(template.rule), nodes, slot);
                refused(nodes.guarded[slot] && !tolerates(), Refusal::Tainted)
            }
            FilterPlugin::NodeAffinity => {
                let accepts = rules[template.rule].accepts(rules.key(template.rule), nodes, slot);
                refused(!accepts, Refusal::NotChosen)
            }
            FilterPlugin::NodePorts => {
                let mut taken = shift.ports(&nodes.ports[slot]);
                let conflict = taken.any(|port| template.ports.iter().any(|wanted| wanted.conflicts(port)));
                refused(conflict, Refusal::PortTaken)
            }
            FilterPlugin::NodeResourcesFit => {
                let short =
                    |&(resource, wanted): &(usize, i64)| is_short(self.table, resource, wanted, slot, shift);
                let full = is_full(self.table, slot, shift);
                refused(full || template.requests.iter().any(short), Refusal::NoRoom)
            }
            FilterPlugin::PodTopologySpread => self.ask_spread(slot),
            FilterPlugin::InterPodAffinity => self.ask_pods(slot),
        }
    }

    fn ask_spread(&self, slot: Slot) -> Option<Refusal> {
        for one in &self.spread {
            let value = self.table.nodes.columns[one.hard.column].of[slot];
            if value == NO_VALUE {
                return Some(Refusal::NoSpreadLabel);
            }
            if i64::from(one.pods.get(value as usize).copied().unwrap_or_default()) > one.most {
                return Some(Refusal::Skewed);
            }
        }
        None
    }

    fn ask_pods(&self, slot: Slot) -> Option<Refusal> {
        let columns = &self.table.nodes.columns;
        let domains = &self.table.population.domains;
        let near = |term: &Term| at(&domains[term.domain].pods, columns[term.column].of[slot]);
        let lacks_label = |term: &Term| columns[term.column].of[slot] == NO_VALUE;
        let affinity = &self.template.affinity;
        if affinity.iter().any(lacks_label) {
            return Some(Refusal::NotNear);
        }
        if !self.is_first && affinity.iter().any(|term| near(term) == 0) {
            return Some(Refusal::NotNear);
        }
        if self.template.anti_affinity.iter().any(|term| near(term) > 0) {
            return Some(Refusal::TooNear);
        }
        let kept_off =
            self.keep_off.iter().any(|(column, carriers)| at(&carriers.pods, columns[*column].of[slot]) > 0);
        kept_off.then_some(Refusal::KeptOff)
    }
}

/// The count of a value; 0 for a node without one.
pub fn at(counts: &[u32], value: u32) -> u32 {
    counts.get(value as usize).copied().unwrap_or_default()
}

fn allowed<'a>(table: &'a Table, hard: &'a Hard) -> Allowed<'a> {
    let counts = &table.population.domains[hard.domain];
    let there = counts.pods.iter().zip(&counts.nodes).filter(|(_, nodes)| **nodes > 0);
    // the global minimum is taken as 0 while there are fewer domains than asked for
    let least = if counts.domains >= hard.min_domains { there.map(|one| *one.0).min() } else { None };
    let most = hard.max_skew + i64::from(least.unwrap_or_default()) - hard.own;
    Allowed { hard, pods: &counts.pods, most }
}
