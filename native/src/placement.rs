//! Filtering and scoring for kubecore.scheduler.placement.

use kubecore_core::placement::{
    Diagnosis as CoreDiagnosis, FactsError, Id, Placer as CorePlacer, Profile, ScorePlugin, Table, scores,
};
use parking_lot::{Mutex, MutexGuard};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

/// Nodes that were looked at, those that were not because the pod names others, whether the pod names none that could
/// be, and plugin, reason and number of nodes of each refusal.
type Diagnosis = (usize, Option<usize>, bool, Vec<(&'static str, String, u32)>);

fn refused(error: FactsError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// Fails where a plugin that is being asked calls back into what asks it.
fn lock<T>(mutex: &Mutex<T>) -> PyResult<MutexGuard<'_, T>> {
    mutex.try_lock().ok_or_else(|| PyRuntimeError::new_err("the placement table is in use"))
}

fn lines(diagnosis: CoreDiagnosis) -> Diagnosis {
    let refused = diagnosis.refused.into_iter().map(|one| (one.plugin, one.reason, one.nodes)).collect();
    (diagnosis.nodes, diagnosis.not_named, diagnosis.conflict, refused)
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

    /// Pods, and kinds of pods.
    fn sizes(&self) -> PyResult<(usize, usize)> {
        let table = lock(&self.core)?;
        Ok((table.pods(), table.templates()))
    }
}

#[pyclass(frozen, module = "kubecore._native")]
pub struct Placer {
    core: Mutex<CorePlacer>,
}

#[pymethods]
impl Placer {
    #[new]
    fn new(profile: &[u8], seed: u64) -> PyResult<Self> {
        let profile = Profile::read(profile).map_err(refused)?;
        Ok(Self { core: Mutex::new(CorePlacer::new(profile, seed)) })
    }

    fn decide(&self, table: &PlacementTable, facts: &[u8]) -> PyResult<(Option<String>, Option<Diagnosis>)> {
        let mut table = lock(&table.core)?;
        let template = table.template(facts).map_err(refused)?;
        Ok(match lock(&self.core)?.decide(&mut table, template) {
            Ok(slot) => (Some(table.name(slot).to_owned()), None),
            Err(diagnosis) => (None, Some(lines(diagnosis))),
        })
    }

    #[pyo3(signature = (table, facts, also = None))]
    fn search(
        &self,
        table: &PlacementTable,
        facts: &[u8],
        also: Option<Bound<'_, PyAny>>,
    ) -> PyResult<(Vec<String>, Diagnosis)> {
        let mut table = lock(&table.core)?;
        let template = table.template(facts).map_err(refused)?;
        let agrees = |name: &str| match &also {
            Some(also) => also.call1((name,))?.is_truthy(),
            None => Ok(true),
        };
        let found = lock(&self.core)?.search(&mut table, template, agrees)?;
        let names = found.slots.iter().map(|&slot| table.name(slot).to_owned()).collect();
        Ok((names, lines(found.diagnosis)))
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
    module.add_class::<PlacementTable>()?;
    module.add_class::<Placer>()
}
