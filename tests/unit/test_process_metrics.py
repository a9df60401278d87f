"""What is told of the process, beside what the kernel says of it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

from kubecore.metrics import Metrics
from kubecore.process_metrics import process_metrics

ROOT = Path(__file__).parents[2]


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
    assert 0 < found["process_open_fds"] < found["process_max_fds"]


def test_descriptors_are_counted_as_they_are_opened() -> None:
    """In a process where nothing else opens or closes any: in this one others may be about to end."""
    program = f"""
import os
from {__name__} import told
before = told()["process_open_fds"]
os.dup(0)
print(told()["process_open_fds"] - before)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "1.0\n"


def test_it_started_before_now_and_has_worked_since() -> None:
    found = told()
    assert found["process_cpu_seconds_total"] > 0
    assert time.time() - 24 * 3600 < found["process_start_time_seconds"] <= time.time()


def test_bounds_and_bytes_of_the_network_are_what_the_kernel_says() -> None:
    found = told()
    assert found["process_virtual_memory_max_bytes"] >= found["process_virtual_memory_bytes"]
    before = found["process_network_receive_bytes_total"], found["process_network_transmit_bytes_total"]
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there,
    ):
        here.bind(("127.0.0.1", 0))
        there.sendto(bytes(1000), here.getsockname())
        assert len(here.recv(2000)) == 1000
    found = told()
    after = found["process_network_receive_bytes_total"], found["process_network_transmit_bytes_total"]
    assert all(later - earlier >= 1000 for earlier, later in zip(before, after, strict=True))
