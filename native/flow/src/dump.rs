//! The tables at `/debug/api_priority_and_fairness/`: levels, queues, requests.
//!
//! Source: apiserver `pkg/util/flowcontrol/apf_controller_debug.go`.

use std::time::Duration;

use crate::classify::Asked;
use crate::flow::{Flow, Kept};
use crate::queues::{Entry, State};

const LEVELS: [&str; 10] = [
    "PriorityLevelName",
    "ActiveQueues",
    "IsIdle",
    "IsQuiescing",
    "WaitingRequests",
    "ExecutingRequests",
    "DispatchedRequests",
    "RejectedRequests",
    "TimedoutRequests",
    "CancelledRequests",
];
const QUEUES: [&str; 9] = [
    "PriorityLevelName",
    "Index",
    "PendingRequests",
    "ExecutingRequests",
    "SeatsInUse",
    "NextDispatchR",
    "InitialSeatsSum",
    "MaxSeatsSum",
    "TotalWorkSum",
];
const REQUESTS: [&str; 10] = [
    "PriorityLevelName",
    "FlowSchemaName",
    "QueueIndex",
    "RequestIndexInQueue",
    // As upstream spells it.
    "FlowDistingsher",
    "ArriveTime",
    "InitialSeats",
    "FinalSeats",
    "AdditionalLatency",
    "StartTime",
];
const DETAILS: [&str; 8] =
    ["UserName", "Verb", "APIPath", "Namespace", "Name", "APIVersion", "Resource", "SubResource"];

type Row = Vec<String>;

fn row(cells: &[&str]) -> Row {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

/// Cells end in a comma and are filled up with blanks (Go's `text/tabwriter` with a minimum of 8 and a padding of 1).
fn table(rows: &[Row]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let widest = rows.iter().map(|row| row[column].chars().count() + 1).max().unwrap_or(0);
        (widest + 1).max(8)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            if column + 1 == columns {
                out.push_str(cell);
            } else {
                out.push_str(&format!("{:<1$}", format!("{cell},"), widths[column]));
            }
        }
        out.push('\n');
    }
    out
}

impl<A: Asked> Flow<A> {
    pub fn dump_levels(&self) -> String {
        let mut rows = vec![row(&LEVELS)];
        self.each(|kept, state| {
            let active = state.queues.iter().filter(|queue| !queue.waiting.is_empty()).count();
            let now = &state.present;
            let idle = now.waiting == 0 && now.executing == 0;
            let mut cells = vec![kept.level.name.to_string(), active.to_string()];
            cells.extend([idle, kept.quiescing].map(|told| told.to_string()));
            cells.extend([now.waiting, now.executing].map(|count| count.to_string()));
            let counts = &state.counts;
            let counted = [counts.dispatched, counts.rejected, counts.timed_out, counts.cancelled];
            cells.extend(counted.map(|count| count.to_string()));
            rows.push(cells);
        });
        table(&rows)
    }

    pub fn dump_queues(&self) -> String {
        let mut rows = vec![row(&QUEUES)];
        self.each(|kept, state| {
            for (index, queue) in state.queues.iter().enumerate() {
                let mut cells = vec![kept.level.name.to_string()];
                let counts = [index, queue.waiting.len(), queue.executing, queue.seats];
                cells.extend(counts.map(|count| count.to_string()));
                cells.push(queue.next_r.to_string());
                cells.extend([queue.waiting_initial, queue.waiting_seats].map(|count| count.to_string()));
                cells.push(queue.waiting_work.to_string());
                rows.push(cells);
            }
        });
        table(&rows)
    }

    /// `when` writes a time that was given to `admit` as a date; `details`: who asked for what.
    pub fn dump_requests(&self, details: bool, when: impl Fn(Duration) -> String) -> String {
        let mut head = row(&REQUESTS);
        if details {
            head.extend(row(&DETAILS));
        }
        let mut rows = vec![head];
        self.each(|kept, state| {
            let placed = state.entries.iter().filter(|(_, entry)| !entry.lingers).map(|(key, entry)| {
                let place = entry.queue.and_then(|number| {
                    state.queues.get(number)?.waiting.iter().position(|waiting| *waiting == key)
                });
                (
                    entry.queue.map_or(-1, |number| number as i64),
                    place.map_or(-1, |place| place as i64),
                    entry,
                )
            });
            let mut sorted: Vec<_> = placed.collect();
            // By queue, those that wait first; what has no queue last.
            sorted.sort_by_key(|(queue, place, _)| (*queue < 0, *queue, *place < 0, *place));
            for (queue, place, entry) in sorted {
                rows.push(self.request((&kept.level.name, queue, place), state, entry, details, &when));
            }
        });
        table(&rows)
    }

    fn request(
        &self,
        (level, queue, place): (&str, i64, i64),
        state: &State<A>,
        entry: &Entry<A>,
        details: bool,
        when: &impl Fn(Duration) -> String,
    ) -> Row {
        let schema = &state.counts.schemas[entry.slot].schema;
        let mut cells = row(&[level, schema]);
        cells.extend([queue, place].map(|number| number.to_string()));
        cells.push(self.distinguisher(schema, &entry.asked).to_owned());
        cells.push(when(Duration::from_nanos(entry.arrived)));
        cells.extend([entry.estimate.initial, entry.estimate.last].map(|seats| seats.to_string()));
        cells.push(duration(entry.estimate.lingers));
        cells.push(
            entry
                .started
                .map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |at| when(Duration::from_nanos(at))),
        );
        if details {
            let asked = entry.asked.attributes();
            let version = match asked.group {
                "" => asked.version.to_owned(),
                group => format!("{group}/{}", asked.version),
            };
            let user = &entry.asked.user().username;
            cells.extend(row(&[user, asked.verb, asked.path, asked.namespace, asked.name, &version]));
            cells.extend(row(&[asked.resource, asked.subresource]));
        }
        cells
    }

    /// In the order of their names.
    pub(crate) fn each(&self, mut visit: impl FnMut(&Kept<A>, &mut State<A>)) {
        let Some(table) = self.table.load_full() else { return };
        let mut kept: Vec<&Kept<A>> = table.levels.iter().collect();
        kept.sort_by(|a, b| a.level.name.cmp(&b.level.name));
        for kept in kept {
            visit(kept, &mut kept.level.state.lock());
        }
    }
}

/// As Go writes durations below a minute.
fn duration(time: Duration) -> String {
    let nanos = time.as_nanos() as f64;
    match nanos {
        0.0 => "0s".to_owned(),
        _ if nanos < 1e3 => format!("{nanos}ns"),
        _ if nanos < 1e6 => format!("{}µs", nanos / 1e3),
        _ if nanos < 1e9 => format!("{}ms", nanos / 1e6),
        _ => format!("{}s", nanos / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_as_wide_as_the_widest_of_their_column() {
        let rows = [row(&["a", "b", "c"]), row(&["a long one", "", "d"])];
        assert_eq!(table(&rows), "a,          b,      c\na long one, ,       d\n");
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        let texts =
            [0, 5_000_000, 1_500_000, 2_000_000_000].map(|nanos| duration(Duration::from_nanos(nanos)));
        assert_eq!(texts, ["0s", "5ms", "1.5ms", "2s"]);
    }
}
