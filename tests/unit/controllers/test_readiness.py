"""Pods of a node whose last run has ended."""

from __future__ import annotations

from kubecore.clock import VirtualClock
from kubecore.controllers.readiness import mark_pods_of
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.nodes.test_nodes import add_pod, ready_of


async def test_pods_of_the_node_are_not_ready_any_more_others_still_are(api: FakeAPI, clock: VirtualClock) -> None:
    add_pod(api, "here")
    add_pod(api, "there", "n2")
    await mark_pods_of(api.client("admin"), "n1", clock.now())
    assert (ready_of(api.get("pods", "here")), ready_of(api.get("pods", "there"))) == ("False", "True")


async def test_a_pod_that_is_not_ready_is_left_as_it_is(api: FakeAPI, clock: VirtualClock) -> None:
    add_pod(api, "here")
    await mark_pods_of(api.client("admin"), "n1", clock.now())
    before = api.get("pods", "here")
    await mark_pods_of(api.client("admin"), "n1", clock.now())
    assert api.get("pods", "here") == before
