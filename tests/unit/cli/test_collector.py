"""What the garbage collector does in a process that serves."""

from __future__ import annotations

import subprocess
import sys

ARRIVALS = """
import gc

from kubecore.cli.up import rest_collector

looked_at = []


def watch(phase, told):
    if phase == "start":
        looked_at.append(sum(len(gc.get_objects(generation)) for generation in range(told["generation"] + 1)))


rest_collector()
gc.callbacks.append(watch)
stay = [[] for _ in range(1_500_000)]
print(max(looked_at))
"""


def test_objects_that_arrive_and_stay_are_gone_through_in_small_parts() -> None:
    """No request is answered meanwhile: a million of them take 0.4 s."""
    done = subprocess.run([sys.executable, "-c", ARRIVALS], check=True, stdout=subprocess.PIPE, text=True, timeout=100)
    assert 50_000 <= int(done.stdout) <= 250_000


START = """
import gc
import sys

from kubecore.__main__ import main

began = []
gc.callbacks.append(lambda phase, told: began.append(told["generation"]) if phase == "start" else None)
sys.argv = ["kubecore", "up", "--help"]
try:
    main()
finally:
    print(len(began))
"""


def test_a_start_is_not_interrupted_to_look_for_garbage() -> None:
    done = subprocess.run([sys.executable, "-c", START], check=True, stdout=subprocess.PIPE, text=True, timeout=100)
    assert int(done.stdout.split()[-1]) < 10
