"""What users are told of limits where there are no control groups, and what the runtime is told of pods'."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kubecore.kubelet.cgroups import detection
from kubecore.kubelet.cgroups.interface import Limits
from tests.unit.kubelet.conftest import Node, container

Object = dict[str, Any]
MEBI = 1 << 20

WATCHED = "limits on memory are enforced by looking at what containers have, so that a burst may pass them for a moment"


@pytest.fixture
async def without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    """A node on a machine that lets it have no groups."""
    node = Node(tmp_path / "without")
    monkeypatch.setattr(detection, "detect", lambda mark, join: detection.Detection(None, "not ours to make"))  # type: ignore[arg-type]
    node.runtime.watches_memory = True
    await node.start(cgroups=True)
    yield node
    await node.stop()


def limited(**limits: str) -> Object:
    return container(resources={"limits": limits})


def told(node: Node) -> list[tuple[str, str, str]]:
    """Of limits, about pods."""
    events = [one for one in node.api.all("events") if one["involvedObject"]["kind"] == "Pod"]
    return [(one["type"], one["reason"], one["message"]) for one in events if "imit" in one["reason"]]


async def test_a_limit_on_memory_is_told_as_enforced_by_looking(without: Node) -> None:
    await without.run(limited(memory="50Mi"))
    assert told(without) == [("Normal", "MemoryLimitWatched", f"{WATCHED}: not ours to make")]


async def test_a_limit_on_cpu_is_told_as_not_enforced(without: Node) -> None:
    await without.run(limited(cpu="1"))
    assert told(without) == [("Warning", "LimitsNotEnforced", "limits on CPU are not enforced: not ours to make")]


async def test_both_are_told_at_once_of_the_node_as_of_a_pod(without: Node) -> None:
    await without.run(limited(cpu="1", memory="50Mi"))
    text = f"limits on CPU are not enforced; {WATCHED}: not ours to make"
    assert told(without) == [("Warning", "LimitsNotEnforced", text)]
    assert without.events("LimitsNotEnforced") == [text, text]


async def test_a_runtime_that_looks_at_nothing_is_told_to_enforce_nothing(without: Node) -> None:
    without.runtime.watches_memory = False
    await without.run(limited(cpu="1", memory="50Mi"))
    text = "limits on memory and CPU are not enforced: not ours to make"
    assert told(without) == [("Warning", "LimitsNotEnforced", text)]


async def test_nothing_is_told_of_a_pod_without_limits_or_where_nobody_wants_any(node: Node, without: Node) -> None:
    await without.run()
    await node.run(limited(memory="50Mi"))
    assert told(without) == told(node) == []


async def test_the_runtime_knows_what_a_pod_may_have_as_a_whole_also_when_it_is_resized(without: Node) -> None:
    await without.run(limited(memory="50Mi"))
    assert without.runtime.sandboxes["sandbox1"].limits.memory == 50 * MEBI
    wanted = limited(memory="70Mi")
    without.api.change("pods", "pod", spec={**without.pod()["spec"], "containers": [wanted]})
    await without.settle()
    assert without.runtime.limits["main"].memory == 70 * MEBI
    # None while its containers get theirs: no two of them are to be above an old limit of all.
    assert [one.memory for one in without.runtime.sandbox_limits] == [None, 70 * MEBI]
    assert without.runtime.sandbox_limits[0] == Limits()
