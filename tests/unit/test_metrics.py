"""Counters and histograms as Prometheus reads them."""

from __future__ import annotations

from kubecore.metrics import Counter, Gauge, Histogram, Metrics, Named, ReadHistogram


def told(*metrics: Counter | Gauge | Histogram | ReadHistogram) -> list[str]:
    made = Metrics()
    made.add(*metrics)
    return made.render().decode().splitlines()


def test_a_counter_is_told_by_its_labels_in_order_of_their_names() -> None:
    counter = Counter(Named("asked_total", "[ALPHA] What was asked.", ("verb", "code")))
    counter.add("get", "200")
    counter.add("get", "200", by=2)
    counter.add("create", "201")
    assert told(counter) == [
        "# HELP asked_total [ALPHA] What was asked.",
        "# TYPE asked_total counter",
        'asked_total{code="201",verb="create"} 1',
        'asked_total{code="200",verb="get"} 3',
    ]


def test_a_counter_without_labels_begins_at_nothing() -> None:
    assert told(Counter(Named("lost_total", "Lost.")))[2:] == ["lost_total 0"]


def test_what_takes_as_long_as_a_bound_is_within_it() -> None:
    histogram = Histogram(Named("took_seconds", "Took.", ("step",)), (0.0000005, 0.5, 2.5))
    for seconds in (0.0, 0.5, 0.75, 2.5, 9.0):
        histogram.observe(seconds, "a")
    assert told(histogram) == [
        "# HELP took_seconds Took.",
        "# TYPE took_seconds histogram",
        'took_seconds_bucket{le="5e-07",step="a"} 1',
        'took_seconds_bucket{le="0.5",step="a"} 2',
        'took_seconds_bucket{le="2.5",step="a"} 4',
        'took_seconds_bucket{le="+Inf",step="a"} 5',
        'took_seconds_sum{step="a"} 12.75',
        'took_seconds_count{step="a"} 5',
    ]


def test_a_series_that_is_kept_for_later_is_told_once_something_is_observed() -> None:
    histogram = Histogram(Named("took_seconds", "Took.", ("step",)), (1.0,))
    series = histogram.series("a")
    assert told(histogram) == []
    series.observe(0.5)
    assert told(histogram)[-1] == 'took_seconds_count{step="a"} 1'


def test_values_of_labels_are_escaped() -> None:
    gauge = Gauge(Named("there", "There.", ("name",)))
    gauge.set(1, 'a"b\\c\nd')
    assert told(gauge)[-1] == r'there{name="a\"b\\c\nd"} 1'


def test_others_are_told_behind_what_is_counted_here() -> None:
    metrics = Metrics()
    metrics.join(lambda: b"other 1\n")
    metrics.add(Counter(Named("lost_total", "Lost.")))
    assert metrics.render().decode().splitlines()[-2:] == ["lost_total 0", "other 1"]


def test_a_histogram_that_somebody_else_keeps_is_asked_for_each_time() -> None:
    counts = [1, 0, 2]
    histogram = ReadHistogram(Named("took_seconds", "Took."), lambda: ((0.5, 2.5), counts, 9.5))
    counts[1] += 3
    assert told(histogram) == [
        "# HELP took_seconds Took.",
        "# TYPE took_seconds histogram",
        'took_seconds_bucket{le="0.5"} 1',
        'took_seconds_bucket{le="2.5"} 4',
        'took_seconds_bucket{le="+Inf"} 6',
        "took_seconds_sum 9.5",
        "took_seconds_count 6",
    ]
