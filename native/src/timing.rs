//! `_native.TimeSeries`, how often what took how long, and `_native.TimedCalls`: admission's plugins, called one after
//! the other and timed. Every write goes through them, for which a reading of the clock and a count in Python cost as
//! much as a plugin.

use std::sync::atomic::{AtomicU64, Ordering};

use kubecore_core::clock::Clock as CoreClock;
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::{PyTraverseError, PyVisit};

use crate::clock::Clock;

/// One series of a histogram. Counted by whoever holds the GIL, so that nothing is lost between a load and a store.
#[pyclass(frozen, module = "kubecore._native")]
pub struct TimeSeries {
    bounds: Box<[f64]>,
    counts: Box<[AtomicU64]>,
    /// The bits of a float.
    seconds: AtomicU64,
}

#[pymethods]
impl TimeSeries {
    #[new]
    fn new(bounds: Vec<f64>) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds: bounds.into(), counts, seconds: AtomicU64::new(0) }
    }

    fn observe(&self, seconds: f64) {
        let within = self.bounds.iter().position(|bound| seconds <= *bound).unwrap_or(self.bounds.len());
        self.counts[within].fetch_add(1, Ordering::Relaxed);
        self.add(seconds);
    }

    /// How many were within each bound and above the one before; last, those above all.
    fn told(&self) -> Vec<u64> {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    #[getter]
    fn seconds(&self) -> f64 {
        f64::from_bits(self.seconds.load(Ordering::Relaxed))
    }
}

impl TimeSeries {
    /// What was counted before took longer.
    fn add(&self, seconds: f64) {
        self.seconds.store((self.seconds() + seconds).to_bits(), Ordering::Relaxed);
    }
}

/// What is called, and where it is counted.
struct Call {
    callable: Py<PyAny>,
    /// Of those that it lets pass.
    passed: Py<TimeSeries>,
    /// Its passing was counted by another of its calls.
    is_more: bool,
    /// Of those that it refuses: its own and the step's.
    refused: Py<TimeSeries>,
    step_refused: Py<TimeSeries>,
}

/// One step of admission, or the part of it that plugins' methods of one name are.
#[pyclass(frozen, module = "kubecore._native")]
struct TimedCalls {
    calls: Vec<Call>,
    step: Py<TimeSeries>,
    refusal: Py<PyType>,
    clock: CoreClock,
}

/// A [`Call`] as Python gives it: its fields in their order.
type GivenCall = (Py<PyAny>, Py<TimeSeries>, bool, Py<TimeSeries>, Py<TimeSeries>);

/// Where a step waits for somebody: what for, the number of the call, and when the step and that call began.
type Paused = (Py<PyAny>, usize, f64, f64);

#[pymethods]
impl TimedCalls {
    #[new]
    fn new(calls: Vec<GivenCall>, step: Py<TimeSeries>, refusal: Py<PyType>, clock: &Clock) -> Self {
        let calls = calls.into_iter().map(|(callable, passed, is_more, refused, step_refused)| Call {
            callable,
            passed,
            is_more,
            refused,
            step_refused,
        });
        Self { calls: calls.collect(), step, refusal, clock: clock.core.clone() }
    }

    /// Whether one of them says yes, and how long all took.
    fn part(
        &self,
        py: Python<'_>,
        ctx: &Bound<'_, PyAny>,
        obj: &Bound<'_, PyAny>,
        old: &Bound<'_, PyAny>,
    ) -> PyResult<(bool, f64)> {
        let began = self.now();
        let (mut before, mut any_says_yes) = (began, false);
        for call in &self.calls {
            let said = call.callable.bind(py).call1((ctx, obj, old));
            let said = self.judged(py, call, said, began, before)?;
            any_says_yes |= said.is_truthy()?;
            before = self.passed(call, before);
        }
        Ok((any_says_yes, before - began))
    }

    /// The same where they are the whole step.
    fn whole(
        &self,
        py: Python<'_>,
        ctx: &Bound<'_, PyAny>,
        obj: &Bound<'_, PyAny>,
        old: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let (any_says_yes, seconds) = self.part(py, ctx, obj, old)?;
        self.step.get().observe(seconds);
        Ok(any_says_yes)
    }

    /// The last part of a step, whose former ones took `seconds`: up to the first that has to wait.
    fn last(
        &self,
        py: Python<'_>,
        ctx: &Bound<'_, PyAny>,
        obj: &Bound<'_, PyAny>,
        old: &Bound<'_, PyAny>,
        seconds: f64,
    ) -> PyResult<Option<Paused>> {
        let now = self.now();
        self.following(py, (ctx, obj, old), 0, now - seconds, now)
    }

    /// What call `number` waited for has passed: goes on with the next one.
    #[allow(clippy::too_many_arguments)] // three are what every call is told, three what `Paused` says
    fn go_on(
        &self,
        py: Python<'_>,
        ctx: &Bound<'_, PyAny>,
        obj: &Bound<'_, PyAny>,
        old: &Bound<'_, PyAny>,
        number: usize,
        began: f64,
        before: f64,
    ) -> PyResult<Option<Paused>> {
        let before = self.passed(self.call(number)?, before);
        self.following(py, (ctx, obj, old), number + 1, began, before)
    }

    /// What call `number` waited for has refused.
    fn refused(&self, number: usize, began: f64, before: f64) -> PyResult<()> {
        self.count_refusal(self.call(number)?, began, before);
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.calls.iter().try_for_each(|call| visit.call(&call.callable))
    }
}

impl TimedCalls {
    fn now(&self) -> f64 {
        self.clock.monotonic().as_secs_f64()
    }

    fn call(&self, number: usize) -> PyResult<&Call> {
        self.calls.get(number).ok_or_else(|| PyIndexError::new_err("no such call"))
    }

    fn following(
        &self,
        py: Python<'_>,
        told: (&Bound<'_, PyAny>, &Bound<'_, PyAny>, &Bound<'_, PyAny>),
        first: usize,
        began: f64,
        mut before: f64,
    ) -> PyResult<Option<Paused>> {
        for (number, call) in self.calls.iter().enumerate().skip(first) {
            let said = self.judged(py, call, call.callable.bind(py).call1(told), began, before)?;
            if !said.is_none() {
                return Ok(Some((said.unbind(), number, began, before)));
            }
            before = self.passed(call, before);
        }
        self.step.get().observe(before - began);
        Ok(None)
    }

    /// What it says; a refusal is counted, a failure is not.
    fn judged<'py>(
        &self,
        py: Python<'py>,
        call: &Call,
        said: PyResult<Bound<'py, PyAny>>,
        began: f64,
        before: f64,
    ) -> PyResult<Bound<'py, PyAny>> {
        said.inspect_err(|error| {
            if error.is_instance(py, self.refusal.bind(py)) {
                self.count_refusal(call, began, before);
            }
        })
    }

    fn count_refusal(&self, call: &Call, began: f64, before: f64) {
        let now = self.now();
        call.refused.get().observe(now - before);
        call.step_refused.get().observe(now - began);
    }

    /// When it had.
    fn passed(&self, call: &Call, before: f64) -> f64 {
        let now = self.now();
        let series = call.passed.get();
        if call.is_more {
            series.add(now - before)
        } else {
            series.observe(now - before)
        }
        now
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<TimeSeries>()?;
    module.add_class::<TimedCalls>()
}
