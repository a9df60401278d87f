//! How often each mode had the last word, under Kubernetes' name (apiserver `pkg/authorization/metrics`). That a mode has
//! no opinion is not told.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::metrics::escape;

const NAME: &str = "apiserver_authorization_decisions_total";

/// Of one mode: those that allow, and those that deny.
#[derive(Default)]
pub(super) struct Counts([AtomicU64; 2]);

impl Counts {
    pub(super) fn count(&self, allowed: bool) {
        self.0[usize::from(!allowed)].fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Default)]
pub struct Decided {
    /// By type and name, also of modes that are not in force any more.
    all: Mutex<BTreeMap<(String, String), Arc<Counts>>>,
    /// In the order of the modes in force.
    current: ArcSwap<Vec<Arc<Counts>>>,
}

impl Decided {
    /// The modes in force, by their types and names.
    pub(super) fn begin(&self, modes: impl IntoIterator<Item = (String, String)>) {
        let mut all = self.all.lock();
        let current = modes.into_iter().map(|mode| all.entry(mode).or_default().clone()).collect();
        self.current.store(Arc::new(current));
    }

    /// By the mode of that number, if there is one.
    pub fn count(&self, mode: Option<usize>, allowed: bool) {
        if let Some(mode) = mode
            && let Some(counts) = self.current.load().get(mode)
        {
            counts.count(allowed);
        }
    }

    /// What is counted by the mode of that number, while it is in force.
    pub(super) fn of(&self, mode: usize) -> Option<Arc<Counts>> {
        self.current.load().get(mode).cloned()
    }

    /// Prometheus text.
    pub fn render(&self) -> String {
        let mut lines = String::new();
        for ((kind, name), counts) in &*self.all.lock() {
            for (decision, count) in ["allowed", "denied"].into_iter().zip(&counts.0) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let (name, kind) = (escape(name), escape(kind));
                    let labels = format!("decision=\"{decision}\",name=\"{name}\",type=\"{kind}\"");
                    let _ = writeln!(lines, "{NAME}{{{labels}}} {count}");
                }
            }
        }
        if lines.is_empty() {
            return lines;
        }
        format!(
            "# HELP {NAME} [ALPHA] Total number of terminal decisions made by an authorizer split by authorizer type, \
             name, and decision.\n# TYPE {NAME} counter\n{lines}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(kind: &str, name: &str) -> (String, String) {
        (kind.to_owned(), name.to_owned())
    }

    #[test]
    fn modes_are_told_by_their_names_also_when_others_are_in_force() {
        let decided = Decided::default();
        decided.begin([mode("Node", "node"), mode("Webhook", "a")]);
        assert_eq!(decided.render(), "");
        decided.count(Some(0), true);
        decided.count(Some(1), false);
        decided.count(Some(2), true);
        decided.count(None, true);
        decided.begin([mode("Webhook", "a")]);
        decided.count(Some(0), false);
        let lines = [
            r#"{decision="denied",name="a",type="Webhook"} 2"#,
            r#"{decision="allowed",name="node",type="Node"} 1"#,
        ];
        let told = decided.render();
        assert_eq!(told.lines().filter(|line| !line.starts_with('#')).count(), 2);
        lines
            .iter()
            .for_each(|line| assert!(told.contains(&format!("{NAME}{line}\n")), "{line} is not in {told}"));
    }
}
