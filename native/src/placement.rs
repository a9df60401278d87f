//! Filtering and scoring for kubecore.scheduler.placement.

use std::sync::Arc;

use kubecore_core::placement::{
    Diagnosis as CoreDiagnosis, FactsError, Id, Placer as CorePlacer, Profile, Rehearsal, Rehearsed,
    ScorePlugin, Slot, Table, Wish, scores,
};
use parking_lot::{Mutex, MutexGuard};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

/// Nodes there are, those that were not looked at because the pod names others, whether the pod names none that could
/// be, plugin, reason and number of nodes of each refusal, and the nodes on which preemption might help.
type Diagnosis = (usize, Option<usize>, bool, Vec<(&'static str, String, u32)>, Crowd);

/// Node, keys of the victims, how many budgets they violate.
type Candidate = (String, Vec<String>, u32);

/// Candidates, nodes that are none, and for how many of those each reason holds.
type Outcome = (Vec<Candidate>, u32, Vec<(String, u32)>);

/// The pod's uid, its priority, and the node that is being made free for it.
type PodWish<'a> = (&'a str, i64, Option<&'a str>);

fn refused(error: FactsError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// Fails where a plugin that is being asked calls back into what asks it.
fn lock<T>(mutex: &Mutex<T>) -> PyResult<MutexGuard<'_, T>> {
    mutex.try_lock().ok_or_else(|| PyRuntimeError::new_err("the placement table is in use"))
}

fn lines(diagnosis: CoreDiagnosis, placer: &Arc<Mutex<CorePlacer>>) -> Diagnosis {
    let refused = diagnosis.refused.into_iter().map(|one| (one.plugin, one.reason, one.nodes)).collect();
    let crowd = Crowd { slots: diagnosis.crowded, placer: Arc::clone(placer) };
    (diagnosis.nodes, diagnosis.not_named, diagnosis.conflict, refused, crowd)
}

fn told(table: &Table, rehearsed: Rehearsed) -> Outcome {
    let candidates = rehearsed.candidates.into_iter().map(|one| {
        let victims = one.victims.iter().map(|&pod| table.key_of(pod).to_owned()).collect();
        (table.name(one.slot).to_owned(), victims, one.violations)
    });
    (candidates.collect(), rehearsed.refused, rehearsed.reasons.into_iter().collect())
}

fn wished(wish: PodWish<'_>) -> Wish<'_> {
    let (uid, priority, nominated) = wish;
    Wish { uid, priority, nominated }
}

/// Nodes, by numbers that hold until the table changes, so that thousands need not be named for nothing.
#[pyclass(frozen, module = "kubecore._native")]
pub struct Crowd {
    slots: Arc<Vec<Slot>>,
    placer: Arc<Mutex<CorePlacer>>,
}

impl Drop for Crowd {
    fn drop(&mut self) {
        if let Some(mut placer) = self.placer.try_lock() {
            placer.take_back(std::mem::take(&mut self.slots));
        }
    }
}

#[pymethods]
impl Crowd {
    fn __len__(&self) -> usize {
        self.slots.len()
    }

    fn names(&self, table: &PlacementTable) -> PyResult<Vec<String>> {
        let table = lock(&table.core)?;
        Ok(self.slots.iter().map(|&slot| table.name(slot).to_owned()).collect())
    }

    fn holds(&self, table: &PlacementTable, name: &str) -> PyResult<bool> {
        let slot = lock(&table.core)?.slot(name);
        Ok(slot.is_some_and(|slot| self.slots.contains(&slot)))
    }
}

#[pyclass(frozen, module = "kubecore._native")]
pub struct PlacementTable {
    core: Mutex<Table>,
}

#[pymethods]
impl PlacementTable {
    #[new]
    fn new() -> Self {
        Self { core: Mutex::new(Table::new()) }
    }

    fn set_node(&self, name: &str, facts: &[u8]) -> PyResult<()> {
        lock(&self.core)?.set_node(name, facts).map_err(refused)
    }

    fn remove_node(&self, name: &str) -> PyResult<()> {
        lock(&self.core)?.remove_node(name);
        Ok(())
    }

    #[pyo3(signature = (name, labels))]
    fn set_namespace(&self, name: &str, labels: Option<&[u8]>) -> PyResult<()> {
        lock(&self.core)?.set_namespace(name, labels).map_err(refused)
    }

    fn put_pod(&self, key: &str, node: &str, facts: &[u8]) -> PyResult<()> {
        lock(&self.core)?.put_pod(key, node, facts).map_err(refused)
    }

    fn drop_pod(&self, key: &str) -> PyResult<()> {
        lock(&self.core)?.drop_pod(key);
        Ok(())
    }

    #[pyo3(signature = (key, started))]
    fn set_started(&self, key: &str, started: Option<i64>) -> PyResult<()> {
        lock(&self.core)?.set_started(key, started);
        Ok(())
    }

    fn set_budgets(&self, facts: &[u8]) -> PyResult<()> {
        lock(&self.core)?.set_budgets(facts).map_err(refused)
    }

    fn nominate(&self, uid: &str, node: &str, priority: i64, facts: &[u8]) -> PyResult<()> {
        lock(&self.core)?.nominate(uid, node, priority, facts).map_err(refused)
    }

    fn withdraw(&self, uid: &str) -> PyResult<()> {
        lock(&self.core)?.withdraw(uid);
        Ok(())
    }

    /// Pods, and kinds of pods.
    fn sizes(&self) -> PyResult<(usize, usize)> {
        let table = lock(&self.core)?;
        Ok((table.pods(), table.templates()))
    }
}

#[pyclass(frozen, module = "kubecore._native")]
pub struct Placer {
    core: Arc<Mutex<CorePlacer>>,
}

#[pymethods]
impl Placer {
    #[new]
    fn new(profile: &[u8], seed: u64) -> PyResult<Self> {
        let profile = Profile::read(profile).map_err(refused)?;
        Ok(Self { core: Arc::new(Mutex::new(CorePlacer::new(profile, seed))) })
    }

    #[pyo3(signature = (table, facts, wish = ("", 0, None)))]
    fn decide(
        &self,
        table: &PlacementTable,
        facts: &[u8],
        wish: PodWish<'_>,
    ) -> PyResult<(Option<String>, Option<Diagnosis>)> {
        let mut table = lock(&table.core)?;
        let template = table.template(facts).map_err(refused)?;
        let decided = lock(&self.core)?.decide(&mut table, template, &wished(wish));
        Ok(match decided {
            Ok(slot) => (Some(table.name(slot).to_owned()), None),
            Err(diagnosis) => (None, Some(lines(diagnosis, &self.core))),
        })
    }

    #[pyo3(signature = (table, facts, wish = ("", 0, None), also = None))]
    fn search(
        &self,
        table: &PlacementTable,
        facts: &[u8],
        wish: PodWish<'_>,
        also: Option<Bound<'_, PyAny>>,
    ) -> PyResult<(Vec<String>, Diagnosis)> {
        let mut table = lock(&table.core)?;
        let template = table.template(facts).map_err(refused)?;
        let agrees = |name: &str| match &also {
            Some(also) => also.call1((name,))?.is_truthy(),
            None => Ok(true),
        };
        let found = lock(&self.core)?.search(&mut table, template, &wished(wish), agrees)?;
        let names = found.slots.iter().map(|&slot| table.name(slot).to_owned()).collect();
        Ok((names, lines(found.diagnosis, &self.core)))
    }

    /// `plan`: start, enough, now in microseconds, whether to tell of all candidates.
    fn rehearse(
        &self,
        table: &PlacementTable,
        facts: &[u8],
        wish: PodWish<'_>,
        crowd: &Crowd,
        plan: (usize, usize, i64, bool),
    ) -> PyResult<Outcome> {
        let mut table = lock(&table.core)?;
        let template = table.template(facts).map_err(refused)?;
        let (start, enough, now, all) = plan;
        let plan = Rehearsal { start, enough, now, all };
        let found = lock(&self.core)?.rehearse(&mut table, template, &wished(wish), &crowd.slots, &plan);
        Ok(told(&table, found))
    }

    fn totals(&self, table: &PlacementTable, facts: &[u8], nodes: Vec<String>) -> PyResult<Vec<i64>> {
        let (mut table, placer) = (lock(&table.core)?, lock(&self.core)?);
        let template = table.template(facts).map_err(refused)?;
        Ok(placer.totals(&table, template, &slots(&table, &nodes)?))
    }

    fn scores(
        &self,
        table: &PlacementTable,
        facts: &[u8],
        plugin: &str,
        nodes: Vec<String>,
    ) -> PyResult<Option<Vec<i64>>> {
        let (mut table, placer) = (lock(&table.core)?, lock(&self.core)?);
        let template: Id = table.template(facts).map_err(refused)?;
        let plugin: ScorePlugin = plugin.parse().map_err(refused)?;
        let nodes = slots(&table, &nodes)?;
        Ok(scores(&table, table.at(template), plugin, &placer.profile.options, &nodes))
    }

    fn choose(&self, totals: Vec<i64>) -> PyResult<Option<usize>> {
        Ok(lock(&self.core)?.choose(&totals))
    }
}

fn slots(table: &Table, names: &[String]) -> PyResult<Vec<usize>> {
    let slot =
        |name: &String| table.slot(name).ok_or_else(|| PyValueError::new_err(format!("no node {name:?}")));
    names.iter().map(slot).collect()
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Crowd>()?;
    module.add_class::<PlacementTable>()?;
    module.add_class::<Placer>()
}
