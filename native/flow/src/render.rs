//! The metrics `apiserver_flowcontrol_*`. Source: apiserver `pkg/util/flowcontrol/metrics`.

use std::fmt::Write;
use std::time::Duration;

use crate::classify::Asked;
use crate::counts::{LastDispatch, Rejection, SchemaCounts};
use crate::flow::Flow;
use crate::histogram::{Histogram, RatioOverTime};
use crate::level::Limits;
use crate::over_time::OverTime;
use crate::work::{SeatSeconds, nanoseconds};

type OfSchema = (&'static str, &'static str, fn(&SchemaCounts) -> u64);
type OfLevel = (&'static str, &'static str, fn(&Limits) -> f64);
type SchemaHistogram = (&'static str, &'static str, fn(&SchemaCounts) -> Vec<(&'static str, &Histogram)>);

const COUNTERS: [OfSchema; 2] = [
    (
        "dispatched_requests_total",
        "Number of requests executed by API Priority and Fairness subsystem",
        |counts| counts.dispatched,
    ),
    (
        "request_dispatch_no_accommodation_total",
        "Number of times a dispatch attempt resulted in a non accommodation due to lack of available seats",
        |counts| counts.without_room,
    ),
];
const GAUGES: [OfSchema; 4] = [
    (
        "current_inqueue_requests",
        "Number of requests currently pending in queues of the API Priority and Fairness subsystem",
        |counts| counts.waiting as u64,
    ),
    (
        "current_inqueue_seats",
        "Number of seats currently pending in queues of the API Priority and Fairness subsystem",
        |counts| counts.waiting_seats as u64,
    ),
    (
        "current_executing_requests",
        "Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage in the API Priority and \
         Fairness subsystem",
        |counts| counts.executing as u64,
    ),
    (
        "current_executing_seats",
        "Concurrency (number of seats) occupied by the currently executing (initial stage for a WATCH, any stage \
         otherwise) requests in the API Priority and Fairness subsystem",
        |counts| counts.executing_seats as u64,
    ),
];
const LIMITS: [OfLevel; 9] = [
    (
        "nominal_limit_seats",
        "Nominal number of execution seats configured for each priority level",
        |limits| f64::from(limits.nominal),
    ),
    (
        "lower_limit_seats",
        "Configured lower bound on number of execution seats available to each priority level",
        |limits| f64::from(limits.lower),
    ),
    (
        "upper_limit_seats",
        "Configured upper bound on number of execution seats available to each priority level",
        |limits| f64::from(limits.upper),
    ),
    (
        "current_limit_seats",
        "current derived number of execution seats available to each priority level",
        |limits| f64::from(limits.current),
    ),
    (
        "demand_seats_high_watermark",
        "High watermark, over last adjustment period, of demand_seats",
        |limits| limits.demand.peak,
    ),
    (
        "demand_seats_average",
        "Time-weighted average, over last adjustment period, of demand_seats",
        |limits| limits.demand.average,
    ),
    (
        "demand_seats_stdev",
        "Time-weighted standard deviation, over last adjustment period, of demand_seats",
        |limits| limits.demand.deviation,
    ),
    ("demand_seats_smoothed", "Smoothed seat demands", |limits| limits.demand.smoothed),
    ("target_seats", "Seat allocation targets", |limits| limits.target),
];
const HISTOGRAMS: [SchemaHistogram; 5] = [
    (
        "request_queue_length_after_enqueue",
        "Length of queue in the API Priority and Fairness subsystem, as seen by each request after it is enqueued",
        |counts| vec![("", &counts.queue_length)],
    ),
    ("request_wait_duration_seconds", "Length of time a request spent waiting in its queue", |counts| {
        vec![("execute=\"true\",", &counts.waited), ("execute=\"false\",", &counts.waited_in_vain)]
    }),
    (
        "request_execution_seconds",
        "Duration of initial stage (for a WATCH) or any (for a non-WATCH) stage of request execution in the API \
         Priority and Fairness subsystem",
        |counts| vec![("type=\"regular\",", &counts.executed), ("type=\"watch\",", &counts.initialized)],
    ),
    (
        "watch_count_samples",
        "count of watchers for mutating requests in API Priority and Fairness",
        |counts| vec![("", &counts.watchers)],
    ),
    (
        "work_estimated_seats",
        "Number of estimated seats (maximum of initial and final seats) associated with requests in API Priority and \
         Fairness",
        |counts| vec![("", &counts.seats)],
    ),
];
type LevelRatio = (&'static str, &'static str, fn(&OverTime) -> Vec<(&'static str, &RatioOverTime)>);
const RATIOS: [LevelRatio; 3] = [
    (
        "priority_level_request_utilization",
        "Observations, at the end of every nanosecond, of number of requests (as a fraction of the relevant limit) \
         waiting or in any stage of execution (but only initial stage for WATCHes)",
        |of| vec![("phase=\"waiting\",", &of.waiting), ("phase=\"executing\",", &of.executing)],
    ),
    (
        "priority_level_seat_utilization",
        "Observations, at the end of every nanosecond, of utilization of seats for any stage of execution (but only \
         initial stage for WATCHes)",
        |of| vec![("phase=\"executing\",", &of.seats)],
    ),
    (
        "demand_seats",
        "Observations, at the end of every nanosecond, of (the number of seats each priority level could use) / \
         (nominal number of seats for that level)",
        |of| vec![("", &of.demanded)],
    ),
];

type Progress =
    (&'static str, &'static str, fn(SeatSeconds, &LastDispatch) -> Vec<(&'static str, SeatSeconds)>);
const MIN: &str = "bound=\"min\",";
const MAX: &str = "bound=\"max\",";
const PROGRESS: [Progress; 5] = [
    ("current_r", "R(time of last change)", |r, _| vec![("", r)]),
    ("dispatch_r", "R(time of last dispatch)", |_, last| vec![("", last.r)]),
    ("latest_s", "S(most recently dispatched request)", |_, last| vec![("", last.s)]),
    ("next_s_bounds", "min and max, over queues, of S(oldest waiting request in queue)", |_, last| {
        vec![(MIN, last.bounds.0), (MAX, last.bounds.1)]
    }),
    (
        "next_discounted_s_bounds",
        "min and max, over queues, of S(oldest waiting request in queue) - estimated work in progress",
        |_, last| vec![(MIN, last.discounted.0), (MAX, last.discounted.1)],
    ),
];

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP apiserver_flowcontrol_{name} {help}");
    let _ = writeln!(out, "# TYPE apiserver_flowcontrol_{name} {kind}");
}

/// The labels of a schema's series.
fn labels(level: &str, schema: &str) -> String {
    format!("flow_schema=\"{schema}\",priority_level=\"{level}\"")
}

impl<A: Asked> Flow<A> {
    /// Prometheus text; nothing while nothing is in force.
    pub fn render(&self, now: Duration) -> String {
        let mut out = String::new();
        if !self.is_on() {
            return out;
        }
        self.keep_up(now);
        self.render_counts(&mut out);
        self.render_levels(&mut out, now);
        for (name, help, of) in HISTOGRAMS {
            head(&mut out, name, "histogram", help);
            self.each_schema(|level, counts| {
                for (label, histogram) in of(counts) {
                    let labels = label.to_owned() + &labels(level, &counts.schema);
                    histogram.render(&mut out, &format!("apiserver_flowcontrol_{name}"), &labels);
                }
            });
        }
        out
    }

    fn render_counts(&self, out: &mut String) {
        let rejected = "rejected_requests_total";
        head(out, rejected, "counter", "Number of requests rejected by API Priority and Fairness subsystem");
        self.each_schema(|level, counts| {
            for (why, reason) in Rejection::ALL {
                let count = counts.rejected[why as usize];
                if count > 0 {
                    let labels = labels(level, &counts.schema);
                    let name = format!("apiserver_flowcontrol_{rejected}");
                    let _ = writeln!(out, "{name}{{{labels},reason=\"{reason}\"}} {count}");
                }
            }
        });
        let kinds = [("counter", &COUNTERS[..]), ("gauge", &GAUGES[..])];
        for (kind, (name, help, of)) in
            kinds.iter().flat_map(|(kind, all)| all.iter().map(move |one| (kind, one)))
        {
            head(out, name, kind, help);
            self.each_schema(|level, counts| {
                let (labels, count) = (labels(level, &counts.schema), of(counts));
                let _ = writeln!(out, "apiserver_flowcontrol_{name}{{{labels}}} {count}");
            });
        }
    }

    fn render_levels(&self, out: &mut String, now: Duration) {
        for (name, help, of) in LIMITS {
            head(out, name, "gauge", help);
            self.each(|kept, state| {
                let (level, value) = (&kept.level.name, of(&state.limits));
                let _ = writeln!(out, "apiserver_flowcontrol_{name}{{priority_level=\"{level}\"}} {value}");
            });
        }
        let told = "Fair fraction of server's concurrency to allocate to each priority level that can use it";
        head(out, "seat_fair_frac", "gauge", told);
        let _ = writeln!(out, "apiserver_flowcontrol_seat_fair_frac {}", self.fair_fraction());
        for (name, help, of) in PROGRESS {
            head(out, name, "gauge", help);
            self.each(|kept, state| {
                for (bound, value) in of(state.r, &state.counts.last) {
                    let (level, value) = (&kept.level.name, value.seconds());
                    let _ = writeln!(
                        out,
                        "apiserver_flowcontrol_{name}{{{bound}priority_level=\"{level}\"}} {value}"
                    );
                }
            });
        }
        self.each(|_, state| state.over_time.settle(nanoseconds(now)));
        for (name, help, of) in RATIOS {
            head(out, name, "histogram", help);
            self.each(|kept, state| {
                for (label, ratio) in of(&state.over_time) {
                    let labels = format!("{label}priority_level=\"{}\"", kept.level.name);
                    ratio.render(out, &format!("apiserver_flowcontrol_{name}"), &labels);
                }
            });
        }
    }

    fn each_schema(&self, mut visit: impl FnMut(&str, &SchemaCounts)) {
        self.each(|kept, state| {
            state.counts.schemas.iter().for_each(|counts| visit(&kept.level.name, counts))
        });
    }
}
