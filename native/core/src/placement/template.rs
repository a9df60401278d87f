//! A pod's facts compiled: what is asked of nodes and of other pods, as numbers into the table.

use super::facts::{HostPort, PodFacts, PodTerm, SelectorFacts, SpreadConstraint};
use super::nodes::Nodes;
use super::population::{CarriedTerm, Claim, DomainKey, LabelSet, PodChoice, PodSelector, Population};
use super::registry::Id;
use super::rules::NodeRule;
use crate::selector::{LabelSelector, SelectorError};

const HOSTNAME: &str = "kubernetes.io/hostname";
/// How the system spreads pods that do not say: topology key and skew.
const DEFAULTS: [(&str, i64); 2] = [(HOSTNAME, 3), ("topology.kubernetes.io/zone", 5)];

/// A hard spread constraint.
pub struct Hard {
    pub domain: Id,
    pub column: usize,
    pub max_skew: i64,
    pub min_domains: usize,
    /// 1 if the pod counts itself.
    pub own: i64,
}

/// A soft spread constraint. Each node is a domain of its own where `hostname`.
pub struct Soft {
    pub domain: Id,
    pub selector: Id,
    pub column: usize,
    pub max_skew: i64,
    pub hostname: bool,
}

/// A term about other pods, over the domains of a topology key.
pub struct Term {
    pub domain: Id,
    pub column: usize,
    pub weight: i64,
}

pub struct Template {
    pub set: Id,
    pub rule: Id,
    pub priority: i64,
    /// Column and amount.
    pub requests: Vec<(usize, i64)>,
    pub used: (i64, i64),
    pub ports: Vec<HostPort>,
    pub node_name: String,
    pub named: Option<Vec<String>>,
    pub tolerates_cordon: bool,
    pub chooses_nodes: bool,
    pub prefers_nodes: bool,
    pub hard: Vec<Hard>,
    pub soft: Vec<Soft>,
    /// The constraints are the pod's own: nodes that lack a label are out.
    pub strict: bool,
    pub affinity: Vec<Term>,
    /// The pod fulfils all its own required affinity terms.
    pub fulfils_itself: bool,
    pub anti_affinity: Vec<Term>,
    pub preferred: Vec<Term>,
    pub carries: Vec<Id>,
    pub images: Vec<Box<str>>,
    /// How many pods in the table are of it.
    pub pods: u32,
    /// It is among the idle ones.
    pub idle: bool,
}

struct Compiling<'a> {
    facts: &'a PodFacts,
    population: &'a mut Population,
    nodes: &'a mut Nodes,
    rule: Id,
}

impl Template {
    /// Fails on a selector that cannot be read, before anything is acquired.
    pub fn compile(
        facts: &PodFacts,
        population: &mut Population,
        nodes: &mut Nodes,
    ) -> Result<Self, SelectorError> {
        check(facts)?;
        let rule = NodeRule {
            selector: facts.node_selector.clone(),
            affinity: facts.affinity.node_affinity.clone(),
            tolerations: facts.tolerations.clone(),
        };
        let (named, chooses_nodes) = (rule.named(), rule.chooses());
        let (tolerates_cordon, prefers_nodes) =
            (rule.tolerates_cordon(), !rule.affinity.preferred.is_empty());
        let set = population.acquire_set(facts.label_set());
        let rule = population.acquire_rule(rule, nodes);
        let requests = facts.requests.iter().map(|(name, amount)| (nodes.resource(name), *amount)).collect();
        let mut compiling = Compiling { facts, population, nodes, rule };
        let strict = !facts.spread.is_empty();
        Ok(Self {
            set,
            rule,
            priority: facts.priority,
            requests,
            used: facts.used,
            ports: facts.ports.clone(),
            node_name: facts.node_name.clone(),
            named,
            tolerates_cordon,
            chooses_nodes,
            prefers_nodes,
            hard: compiling.hard(),
            soft: if strict { compiling.soft() } else { compiling.defaults() },
            strict,
            affinity: compiling.affinity(),
            fulfils_itself: compiling.fulfils_itself(),
            anti_affinity: compiling.anti_affinity(),
            preferred: compiling.preferred(),
            carries: compiling.carries(),
            images: facts.images.clone(),
            pods: 0,
            idle: false,
        })
    }

    /// Gives back all that `compile` acquired.
    pub fn release(self, population: &mut Population) {
        let terms = self.affinity.iter().chain(&self.anti_affinity).chain(&self.preferred);
        let domains = terms.map(|one| one.domain).chain(self.hard.iter().map(|one| one.domain));
        for domain in domains.chain(self.soft.iter().map(|one| one.domain)) {
            population.release_domain(domain);
        }
        self.carries.iter().for_each(|&term| population.release_term(term));
        population.rules.release(self.rule);
        population.sets.release(self.set);
    }
}

impl PodFacts {
    pub fn label_set(&self) -> LabelSet {
        LabelSet { namespace: self.namespace.clone(), labels: self.labels.clone(), deleting: self.deleting }
    }

    fn choice(&self, term: &PodTerm) -> Result<PodChoice, SelectorError> {
        let mut namespaces = term.namespaces.clone();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(self.namespace.clone());
        }
        namespaces.sort();
        let by_labels = term.namespace_selector.as_ref();
        Ok(PodChoice {
            namespaces,
            namespace_selector: by_labels.map(|facts| SelectorFacts::compile(Some(facts))).transpose()?,
            selector: SelectorFacts::compile(term.label_selector.as_ref())?,
            same: Default::default(),
        })
    }

    /// The pods a constraint is about, and whether it counts any: one that chooses everything counts nothing, as in
    /// Kubernetes (`countPodsMatchSelector`).
    fn spread_choice(&self, constraint: &SpreadConstraint) -> Result<(PodChoice, bool), SelectorError> {
        use crate::selector::Lookup;
        let selector = SelectorFacts::compile(constraint.label_selector.as_ref())?;
        let same = constraint.match_label_keys.iter();
        let same = same.filter_map(|key| Some((key.as_str().into(), self.labels.lookup(key)?.into())));
        let mut same: Vec<(Box<str>, Box<str>)> = same.collect();
        same.sort();
        same.dedup();
        let counts = !same.is_empty() || !selector.is_empty();
        let namespaces = vec![self.namespace.clone()];
        let same = super::facts::Labels(same.into());
        Ok((PodChoice { namespaces, namespace_selector: None, selector, same }, counts))
    }

    fn terms(&self) -> impl Iterator<Item = (&PodTerm, Claim)> {
        let (come, off) = (&self.affinity.pod_affinity, &self.affinity.pod_anti_affinity);
        (come.required.iter().map(|term| (term, Claim::ComeHere)))
            .chain(off.required.iter().map(|term| (term, Claim::KeepOff)))
            .chain(come.preferred.iter().map(|one| (&one.pod_affinity_term, Claim::Preferably(one.weight))))
            .chain(off.preferred.iter().map(|one| (&one.pod_affinity_term, Claim::Preferably(-one.weight))))
    }
}

/// All selectors of the pod can be read.
fn check(facts: &PodFacts) -> Result<(), SelectorError> {
    for (term, _) in facts.terms() {
        facts.choice(term)?;
    }
    for constraint in &facts.spread {
        facts.spread_choice(constraint)?;
    }
    if let Some(defaults) = &facts.defaults {
        SelectorFacts::compile(defaults.selector.as_ref())?;
    }
    Ok(())
}

impl Compiling<'_> {
    fn domain(&mut self, selector: Id, column: usize, required: Vec<usize>, honor: (bool, bool)) -> Id {
        let rules = &mut self.population.rules;
        let mut used = |wanted: bool| {
            wanted.then(|| {
                rules.retain(self.rule);
                self.rule
            })
        };
        let (accepted_by, tolerated_by) = (used(honor.0), used(honor.1));
        let key = DomainKey { selector, column, required, accepted_by, tolerated_by };
        self.population.acquire_domain(key, self.nodes)
    }

    fn constraints(&mut self, when: &str) -> Vec<(SpreadConstraint, Vec<usize>)> {
        let facts = self.facts;
        let mine = || facts.spread.iter().filter(|one| one.when_unsatisfiable == when);
        let mut required: Vec<usize> = mine().map(|one| self.nodes.column(&one.topology_key)).collect();
        required.sort_unstable();
        required.dedup();
        mine().map(|one| (one.clone(), required.clone())).collect()
    }

    /// The domain counts of a constraint, the selector, and the choice it is made of.
    fn spread_domain(&mut self, one: &SpreadConstraint, required: Vec<usize>) -> Option<(Id, Id, PodChoice)> {
        let (choice, counts) = self.facts.spread_choice(one).ok()?;
        let mut counted = choice.clone();
        if !counts {
            counted.selector = LabelSelector::nothing();
        }
        let selector = PodSelector { choices: vec![counted], living: true };
        let selector = self.population.acquire_selector(selector, self.nodes);
        let column = self.nodes.column(&one.topology_key);
        let chooses = self.population.rules.key(self.rule).chooses();
        let honor = (chooses && one.node_affinity_policy != "Ignore", one.node_taints_policy == "Honor");
        Some((self.domain(selector, column, required, honor), selector, choice))
    }

    fn hard(&mut self) -> Vec<Hard> {
        let given = self.constraints("DoNotSchedule");
        let compiled = given.into_iter().filter_map(|(one, required)| {
            let (domain, _, choice) = self.spread_domain(&one, required)?;
            let labels = &self.facts.labels;
            let own = labels.include(&choice.same) && choice.selector.matches(labels);
            let min_domains = one.min_domains.filter(|&least| least > 0).unwrap_or(1) as usize;
            let column = self.nodes.column(&one.topology_key);
            Some(Hard { domain, column, max_skew: one.max_skew, min_domains, own: i64::from(own) })
        });
        compiled.collect()
    }

    fn soft(&mut self) -> Vec<Soft> {
        let given = self.constraints("ScheduleAnyway");
        let compiled = given.into_iter().filter_map(|(one, required)| {
            let (domain, selector, _) = self.spread_domain(&one, required)?;
            let (column, hostname) = (self.nodes.column(&one.topology_key), one.topology_key == HOSTNAME);
            Some(Soft { domain, selector, column, max_skew: one.max_skew, hostname })
        });
        compiled.collect()
    }

    /// Over nodes and zones, with the pods that the same Services and controller choose.
    fn defaults(&mut self) -> Vec<Soft> {
        let Some(defaults) = &self.facts.defaults else { return Vec::new() };
        let selector = match &defaults.selector {
            None => LabelSelector::everything(),
            given => SelectorFacts::compile(given.as_ref()).unwrap_or_else(|_| LabelSelector::nothing()),
        };
        let namespaces = vec![self.facts.namespace.clone()];
        let choice =
            PodChoice { namespaces, namespace_selector: None, selector, same: defaults.labels.clone() };
        let chooses = self.population.rules.key(self.rule).chooses();
        let compiled = DEFAULTS.map(|(key, max_skew)| {
            let selector = PodSelector { choices: vec![choice.clone()], living: true };
            let selector = self.population.acquire_selector(selector, self.nodes);
            let column = self.nodes.column(key);
            let domain = self.domain(selector, column, Vec::new(), (chooses, false));
            Soft { domain, selector, column, max_skew, hostname: key == HOSTNAME }
        });
        compiled.into()
    }

    fn term(&mut self, choices: Vec<PodChoice>, topology_key: &str, weight: i64) -> Term {
        let selector = PodSelector { choices, living: false };
        let selector = self.population.acquire_selector(selector, self.nodes);
        let column = self.nodes.column(topology_key);
        Term { domain: self.domain(selector, column, Vec::new(), (false, false)), column, weight }
    }

    fn choices(&self, terms: &[PodTerm]) -> Vec<PodChoice> {
        terms.iter().filter_map(|term| self.facts.choice(term).ok()).collect()
    }

    /// A pod nearby must be chosen by all terms at once.
    fn affinity(&mut self) -> Vec<Term> {
        let terms = &self.facts.affinity.pod_affinity.required;
        let choices = self.choices(terms);
        terms.iter().map(|term| self.term(choices.clone(), &term.topology_key, 0)).collect()
    }

    fn fulfils_itself(&self) -> bool {
        let choices = self.choices(&self.facts.affinity.pod_affinity.required);
        self.population.chooses(&PodSelector { choices, living: false }, &self.facts.label_set())
    }

    fn anti_affinity(&mut self) -> Vec<Term> {
        let terms = &self.facts.affinity.pod_anti_affinity.required;
        let choices = self.choices(terms);
        choices
            .into_iter()
            .zip(terms)
            .map(|(one, term)| self.term(vec![one], &term.topology_key, 0))
            .collect()
    }

    fn preferred(&mut self) -> Vec<Term> {
        let facts = self.facts;
        let compiled = facts.terms().filter_map(|(term, claim)| {
            let Claim::Preferably(weight) = claim else { return None };
            Some(self.term(vec![facts.choice(term).ok()?], &term.topology_key, weight))
        });
        compiled.collect()
    }

    fn carries(&mut self) -> Vec<Id> {
        let facts = self.facts;
        let compiled = facts.terms().filter_map(|(term, claim)| {
            let choice = facts.choice(term).ok()?;
            let column = self.nodes.column(&term.topology_key);
            Some(self.population.acquire_term(CarriedTerm { choice, column, claim }))
        });
        compiled.collect()
    }
}
