"""Times that nothing has set are null, as Go's API server answers them."""

from __future__ import annotations

import pytest

from .conftest import Api, pod

pytestmark = pytest.mark.asyncio(loop_scope="module")

READY = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}


async def test_a_pods_conditions_say_that_they_were_not_probed(api: Api) -> None:
    await api.create("v1/pods", pod("a"))
    status, answer = await api.patch("v1/pods", "a", {"status": {"conditions": [READY]}}, subresource="status")
    assert status == 200
    assert answer["status"]["conditions"] == [{**READY, "lastProbeTime": None}]


async def test_writing_back_what_was_read_changes_nothing(api: Api) -> None:
    await api.create("v1/pods", pod("a"))
    _, read = await api.patch("v1/pods", "a", {"status": {"conditions": [READY]}}, subresource="status")
    for subresource in ("", "status"):
        _, written = await api.update("v1/pods", read, subresource)
        assert written["metadata"]["resourceVersion"] == read["metadata"]["resourceVersion"]
    _, patched = await api.patch(
        "v1/pods", "a", {"status": {"conditions": [READY]}}, kind="strategic-merge-patch", subresource="status"
    )
    assert patched == read


async def test_an_event_has_all_its_times(api: Api) -> None:
    about = {"kind": "Pod", "name": "a", "namespace": api.namespace}
    made = {"metadata": {"name": "e"}, "involvedObject": about, "reason": "x", "type": "Normal"}
    status, answer = await api.create("v1/events", made)
    assert status == 201, answer
    assert [answer[name] for name in ("firstTimestamp", "lastTimestamp", "eventTime")] == [None] * 3
    _, answer = await api.get("events.k8s.io/v1/events", "e")
    assert [answer[name] for name in ("deprecatedFirstTimestamp", "deprecatedLastTimestamp", "eventTime")] == [None] * 3
