//! API Priority and Fairness: which request may take a seat, which waits for one, and which is sent away.
//!
//! A request is classified by the flow schemas (`classify`), priced (`work`), and given to the priority level of its
//! schema (`level`), where flows take turns. Levels lend one another what they do not need (`flow`). Time is an
//! argument of whatever needs it; who waits, waits for a channel. Source: apiserver `pkg/util/flowcontrol`, KEP-1040.

mod allocation;
mod classify;
mod counts;
mod dealing;
mod demand;
mod dump;
mod flow;
mod histogram;
mod level;
mod objects;
mod over_time;
mod queues;
mod render;
mod retry;
mod watches;
pub mod work;

pub use classify::Asked;
pub use dealing::Hand;
pub use flow::{Admitted, Class, Cost, Flow, PERIOD, Schema};
pub use level::{Arrival, Level, Limits, Queuing, Start};
pub use objects::Objects;
pub use watches::{Watches, Watching};
