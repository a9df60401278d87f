"""What is told of the process, beside what the kernel says of it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from kubecore.metrics import Metrics
from kubecore.process_metrics import process_metrics


def told() -> dict[str, float]:
    metrics = Metrics()
    metrics.add(*process_metrics())
    lines = [line for line in metrics.render().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_memory_and_descriptors_are_those_of_the_process() -> None:
    found = told()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmPeak"].split()[0]) * 1024
    assert 0 < found["process_resident_memory_bytes"] < found["process_virtual_memory_bytes"] <= peak
    before = found["process_open_fds"]
    descriptor = os.dup(0)
    try:
        assert told()["process_open_fds"] == before + 1
    finally:
        os.close(descriptor)
    assert found["process_max_fds"] > before


def test_it_started_before_now_and_has_worked_since() -> None:
    found = told()
    assert found["process_cpu_seconds_total"] > 0
    assert time.time() - 24 * 3600 < found["process_start_time_seconds"] <= time.time()
