//! Where the time of a request went, told of one that took long.
//!
//! Source: apiserver `pkg/endpoints/request/webhook_duration.go` and `pkg/endpoints/filters/audit.go`
//! (writeLatencyToAnnotation; in 1.34 and 1.35.0 it takes the time of the stage before, which kubernetes#135685 mends).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kubecore_core::go::duration_text;

use super::event::Findings;

/// What takes no longer is not told.
const NOT_LONG: Duration = Duration::from_millis(500);
const TOTAL: &str = "apiserver.latency.k8s.io/total";

/// What is measured of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    ApfQueueWait,
    Authentication,
    Authorization,
    MutatingWebhook,
    ValidatingWebhook,
}

const LAYERS: [Layer; 5] = [
    Layer::ApfQueueWait,
    Layer::Authentication,
    Layer::Authorization,
    Layer::MutatingWebhook,
    Layer::ValidatingWebhook,
];

impl Layer {
    /// As annotations name it.
    pub fn named(name: &str) -> Option<Self> {
        LAYERS.into_iter().find(|layer| layer.key().rsplit('/').next() == Some(name))
    }

    fn key(self) -> &'static str {
        match self {
            Self::ApfQueueWait => "apiserver.latency.k8s.io/apf-queue-wait",
            Self::Authentication => "apiserver.latency.k8s.io/authentication",
            Self::Authorization => "apiserver.latency.k8s.io/authorization",
            Self::MutatingWebhook => "apiserver.latency.k8s.io/mutating-webhook",
            Self::ValidatingWebhook => "apiserver.latency.k8s.io/validating-webhook",
        }
    }

    /// One is waited for after the other; of the rest, the longest counts.
    fn adds_up(self) -> bool {
        matches!(self, Self::Authentication | Self::MutatingWebhook)
    }
}

/// Nanoseconds of each layer.
#[derive(Default)]
pub(super) struct Latencies([AtomicU64; LAYERS.len()]);

impl Latencies {
    pub fn took(&self, layer: Layer, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let known = &self.0[layer as usize];
        if layer.adds_up() {
            known.fetch_add(nanoseconds, Ordering::Relaxed);
        } else {
            known.fetch_max(nanoseconds, Ordering::Relaxed);
        }
    }

    /// What nobody has measured is not told, as upstream has it.
    pub fn annotate(&self, findings: &mut Findings, total: Duration) {
        if total <= NOT_LONG {
            return;
        }
        let measured = LAYERS.map(|layer| (layer, self.0[layer as usize].load(Ordering::Relaxed)));
        for (layer, nanoseconds) in measured.into_iter().filter(|(_, nanoseconds)| *nanoseconds > 0) {
            findings.annotate(layer.key().into(), text(nanoseconds).into());
        }
        findings.annotate(TOTAL.into(), text(u64::try_from(total.as_nanos()).unwrap_or(u64::MAX)).into());
    }
}

fn text(nanoseconds: u64) -> String {
    duration_text(i64::try_from(nanoseconds).unwrap_or(i64::MAX))
}
