//! Where a pod goes: kube-scheduler's filtering and scoring over all nodes.
//!
//! `Table` holds nodes as a structure of arrays and counts pods by what other pods ask of them; a pod's facts are
//! compiled once for all pods that share them. `Placer` decides for one profile. Nothing here waits, binds or retries:
//! that is the scheduler's (kubecore/scheduler), which tells the table of every node and pod that comes and goes.

mod budgets;
mod facts;
mod filtering;
mod journal;
mod nodes;
mod nominations;
mod placing;
mod population;
mod registry;
mod rehearsal;
mod rules;
mod scoring;
mod shift;
mod standing;
mod table;
mod template;

pub use budgets::Budgets;
pub use filtering::{Counted, FilterPlugin};
pub use nodes::Slot;
pub use placing::{Diagnosis, Found, Placer, Profile, Wish};
pub use registry::Id;
pub use rehearsal::{Candidate, Rehearsal, Rehearsed};
pub use scoring::{ScoreOptions, ScorePlugin, scores};
pub use table::{FactsError, Table};
pub use template::Template;
