"""What a node says that pods can have by its runtimes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from kubecore.clock import RealClock
from kubecore.kubelet.logs.writing import LogBook
from kubecore.kubelet.networks.network import LoopbackNetwork
from kubecore.kubelet.node import runtimes as node_runtimes
from kubecore.kubelet.node.runtimes import NodeRuntimes, make_runtimes
from kubecore.kubelet.node.users_trial import UsersTrial
from kubecore.kubelet.runtime.interface import RuntimeFailure
from kubecore.kubelet.runtime.isolation import Isolation, has_recursive_read_only
from kubecore.kubelet.serving.kubelet_metrics import RuntimeMetrics
from kubecore.kubelet.settings.kubelet_config import KubeletConfig
from tests.support.fake_api import FakeAPI
from tests.support.own_ranges import own_pod_range

OF_ROOT = Isolation(True, False, "as root")
REFUSED = "can't set `spec.hostUsers: false`, runtime does not support user namespaces"
POD = {"spec": {"hostUsers": False}}

Make = Callable[..., NodeRuntimes]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    def made(isolation: Isolation, trial: UsersTrial, lack: str = "") -> NodeRuntimes:
        monkeypatch.setattr(node_runtimes, "probe_isolation", lambda: isolation)
        monkeypatch.setattr(node_runtimes, "image_lack", lambda images, isolation: lack)
        monkeypatch.setattr(UsersTrial, "made", lambda folder: trial)
        clock = RealClock()
        config = KubeletConfig(node_name="node", root_dir=tmp_path, network_mode="loopback")
        network = LoopbackNetwork(own_pod_range())
        book = LogBook()
        return make_runtimes(config, network, (), clock, book, mark="test", metrics=RuntimeMetrics())

    return made


def features(runtimes: NodeRuntimes) -> dict[str, tuple[bool, bool]]:
    """By handler: recursiveReadOnlyMounts and userNamespaces."""
    told = {name: runtimes.features(name) for name in ("host", "oci", "runc")}
    return {name: (one["recursiveReadOnlyMounts"], one["userNamespaces"]) for name, one in told.items()}


@pytest.mark.parametrize(
    ("trial", "by_images", "by_programs"),
    [(UsersTrial("", of_programs=True), True, True), (UsersTrial("", of_programs=False), True, False)],
)
async def test_pods_have_users_where_a_trial_has_shown_it(
    make: Make, trial: UsersTrial, by_images: bool, by_programs: bool
) -> None:
    runtimes = make(OF_ROOT, trial)
    await runtimes.start()
    assert {users for _, users in features(runtimes).values()} == {False}
    told: list[None] = []
    await runtimes.try_users(lambda: told.append(None))
    assert {name: users for name, (_, users) in features(runtimes).items()} == {
        "host": False,
        "oci": by_images,
        "runc": by_programs,
    }
    assert told == [None]


async def test_who_asks_for_users_waits_for_the_trial(make: Make) -> None:
    runtimes = make(OF_ROOT, UsersTrial("", of_programs=False))
    await runtimes.start()
    api = FakeAPI(RealClock())
    chosen = asyncio.create_task(runtimes.of_pod(POD, api.client("kubelet"), "oci", node_name="node"))
    await asyncio.sleep(0)
    assert not chosen.done()
    await runtimes.try_users(lambda: None)
    assert (await chosen).handler == "oci"


async def test_who_asks_where_the_trial_has_failed_is_refused(make: Make) -> None:
    runtimes = make(OF_ROOT, UsersTrial("operation not supported", of_programs=False))
    await runtimes.start()
    await runtimes.try_users(lambda: None)
    with pytest.raises(RuntimeFailure, match=REFUSED):
        await runtimes.of_pod(POD, FakeAPI(RealClock()).client("kubelet"), "oci", node_name="node")


async def test_nobody_waits_where_there_is_nothing_to_try(make: Make) -> None:
    """The runtime `host` as root, and all of them where pods are in a user namespace anyway."""
    client = FakeAPI(RealClock()).client("kubelet")
    as_root = make(OF_ROOT, UsersTrial("", of_programs=True))
    await as_root.start()
    with pytest.raises(RuntimeFailure, match=REFUSED):
        await as_root.of_pod(POD, client, "host", node_name="node")
    alone = make(Isolation(True, True, "without root"), UsersTrial("not to be tried", of_programs=False))
    await alone.start()
    assert (await alone.of_pod(POD, client, "host", node_name="node")).handler == "host"
    told: list[None] = []
    await alone.try_users(lambda: told.append(None))
    assert told == []


async def test_read_only_below_takes_a_mount_namespace_and_the_kernel(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtimes = make(OF_ROOT, UsersTrial("", of_programs=True))
    await runtimes.start()
    assert {below for below, _ in features(runtimes).values()} == {True}
    monkeypatch.setattr(node_runtimes, "has_recursive_read_only", lambda: False)
    assert {below for below, _ in features(runtimes).values()} == {False}
    monkeypatch.undo()
    plain = make(Isolation(False, False, "plain processes"), UsersTrial("no", of_programs=False))
    await plain.start()
    assert {below for below, _ in features(plain).values()} == {False}


RELEASES = {"5.11.22": False, "5.12.0-rc1": True, "6.1.0-13-amd64": True, "4.19": False, "?": False}


@pytest.mark.parametrize(("release", "has"), RELEASES.items())
def test_the_kernels_that_make_all_below_read_only(release: str, has: bool) -> None:
    assert has_recursive_read_only(release) is has
