"""The process that containers run under: when it goes on, when it ends, and what a kubelet finds in it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from kubecore.clock import RealClock
from kubecore.kubelet.keeper import place
from kubecore.kubelet.keeper.kept_runtime import LOST, KeptRuntime
from kubecore.kubelet.keeper.link import KeeperLink
from kubecore.kubelet.keeper.messages import KeeperSettings, Said
from kubecore.kubelet.logs.writing import LogBook
from kubecore.kubelet.networks.network import LoopbackNetwork
from kubecore.kubelet.runtime.interface import ContainerState, ContainerStatus, RuntimeFailure
from tests.integration.host_runtime.conftest import Node, node_mark, processes, started, until
from tests.support.own_ranges import own_pod_range


def settings(root: Path) -> KeeperSettings:
    return KeeperSettings(
        root=root,
        mark=node_mark(),
        image_store=root / "images",
        network_mode="loopback",
        pod_cidrs=(own_pod_range(),),
        cluster_cidrs=(),
        bridge="",
        pods_through_node=False,
    )


class Kubelets:
    """One after the other, on the same node."""

    def __init__(self, root: Path) -> None:
        self.settings = settings(root)
        self.links: list[KeeperLink] = []
        self.patience_seconds = 60.0

    async def one(self) -> Node:
        book = LogBook()
        link = KeeperLink(self.settings, book, RealClock(), patience_seconds=self.patience_seconds)
        self.links.append(link)
        runtime = KeptRuntime("host", link, RealClock(), book)
        holdings = await link.find()
        if holdings is not None:
            runtime.take_over(holdings.held["host"])
        return await started(runtime, LoopbackNetwork(own_pod_range()), self.settings.root)

    async def gone(self) -> None:
        await until(lambda: not place.is_kept(self.settings.root))


@pytest.fixture
async def kubelets(tmp_path: Path) -> AsyncIterator[Kubelets]:
    found = Kubelets(tmp_path)
    yield found
    link = KeeperLink(found.settings, LogBook(), RealClock())
    await link.find()
    await link.end()
    for one in found.links:
        await one.end()


async def run(node: Node, script: str) -> str:
    sandbox, _ = await node.sandbox()
    return await node.start(sandbox, "/bin/sh", "-c", script, log_path=node.root / "0.log")


def output(node: Node) -> list[str]:
    """Whole lines: another process writes them meanwhile."""
    return [line.split(" ", 3)[3] for line in (node.root / "0.log").read_text().split("\n")[:-1]]


def status_of(node: Node, container: str) -> ContainerStatus:
    return node.runtime.container_status(container)


async def test_containers_go_on_without_their_kubelet_and_the_next_one_finds_them_as_they_were(
    kubelets: Kubelets,
) -> None:
    first = await kubelets.one()
    container = await run(first, "i=0; while :; do i=$((i + 1)); echo $i; sleep 0.01; done")
    before = status_of(first, container)
    await until(lambda: len(output(first)) > 3)
    await kubelets.links[0].leave()
    seen = len(output(first))
    await until(lambda: len(output(first)) > seen + 3)
    second = await kubelets.one()
    assert status_of(second, container) == before
    assert (await second.runtime.exec_sync(container, ["echo", "still", "here"], 60)).stdout == b"still here\n"
    await second.runtime.stop_container(container, 0)
    assert (await second.end()).signal == 9
    assert output(second) == [str(number + 1) for number in range(len(output(second)))]


async def test_an_end_that_no_kubelet_saw_is_told_to_the_next_one_with_its_exit_code(kubelets: Kubelets) -> None:
    first = await kubelets.one()
    container = await run(first, f"until [ -e {first.root}/go ]; do sleep 0.01; done; echo last words; exit 5")
    await kubelets.links[0].leave()
    (first.root / "go").touch()
    await until(lambda: output(first) == ["last words"])
    second = await kubelets.one()
    if status_of(second, container).state is ContainerState.RUNNING:
        await second.end()
    assert (status_of(second, container).state, status_of(second, container).exit_code) == (ContainerState.EXITED, 5)


@pytest.mark.parametrize("module", ["selectors", "kubecore"])
async def test_modules_of_the_working_directory_are_not_its_own(
    kubelets: Kubelets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    (tmp_path / f"{module}.py").write_text("raise SystemExit('of the user')")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir(tmp_path)
    node = await kubelets.one()
    await run(node, "exit 3")
    assert (await asyncio.wait_for(node.ends.get(), 60)).exit_code == 3


async def test_one_that_does_not_come_up_says_why_and_where_it_is_written(
    kubelets: Kubelets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os; os.write(2, b'no such luck\\n'); os._exit(1)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    node = await kubelets.one()
    with pytest.raises(RuntimeFailure, match=r"ended at its start: no such luck \(.*/keeper\.log\)"):
        await node.sandbox()


async def test_one_that_did_not_come_up_is_told_of_until_it_does(
    kubelets: Kubelets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os; os.write(2, b'no such luck\\n'); os._exit(1)")
    node = await kubelets.one()
    link = kubelets.links[0]
    assert link.trouble == ""
    with monkeypatch.context() as broken:
        broken.setenv("PYTHONPATH", str(tmp_path))
        with pytest.raises(RuntimeFailure):
            await node.sandbox()
        await link.try_again()
        assert "ended at its start: no such luck" in link.trouble
    await link.try_again()
    assert link.trouble == ""
    await node.sandbox()


async def test_it_ends_with_its_pods_when_the_nodes_folder_is_removed(kubelets: Kubelets) -> None:
    node = await kubelets.one()
    marker = f"5{os.getpid()}1"
    await run(node, f"trap exit TERM; sleep {marker} & wait")
    await kubelets.links[0].leave()
    (node.root / "keeper.sock").unlink()
    await kubelets.gone()
    assert processes(marker) == []


async def test_it_ends_with_its_pods_when_no_kubelet_comes_in_time(kubelets: Kubelets) -> None:
    kubelets.settings = replace(kubelets.settings, lonely_seconds=0.05)
    node = await kubelets.one()
    marker = f"5{os.getpid()}2"
    await run(node, f"trap exit TERM; sleep {marker} & wait")
    await kubelets.links[0].leave()
    await kubelets.gone()
    assert processes(marker) == []


async def test_it_ends_at_once_when_it_is_alone_and_keeps_nothing(kubelets: Kubelets) -> None:
    node = await kubelets.one()
    sandbox, _ = await node.sandbox()
    await node.runtime.remove_pod_sandbox(sandbox)
    assert place.is_kept(node.root)
    await kubelets.links[0].leave()
    await kubelets.gone()
    assert not place.is_kept(node.root)


async def test_a_sandbox_that_comes_to_be_as_it_is_given_up_does_not_stay(
    kubelets: Kubelets, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await kubelets.one()
    kept, _ = await node.sandbox()  # the keeper runs
    link = kubelets.links[0]
    take = link._answered

    def given_up_before(said: Said, descriptors: list[int]) -> None:
        making.cancel()
        take(said, descriptors)

    monkeypatch.setattr(link, "_answered", given_up_before)
    making = asyncio.create_task(node.sandbox())
    with pytest.raises(asyncio.CancelledError):
        await making
    monkeypatch.undo()
    async with asyncio.timeout(60):
        while [one.id for one in (await link.call("", "take over", None)).held["host"].sandboxes] != [kept]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_pods_of_a_node_that_was_made_otherwise_end(kubelets: Kubelets) -> None:
    node = await kubelets.one()
    marker = f"5{os.getpid()}3"
    await run(node, f"trap exit TERM; sleep {marker} & wait")
    await kubelets.links[0].leave()
    kubelets.settings = replace(kubelets.settings, bridge="another")
    second = await kubelets.one()
    assert kubelets.links[1].changed == "bridge , now another"
    assert second.runtime.list_pod_sandboxes() == []
    assert processes(marker) == []


async def test_when_it_is_killed_its_containers_are_told_to_have_ended_and_another_is_started(
    kubelets: Kubelets,
) -> None:
    node = await kubelets.one()
    marker = f"5{os.getpid()}4"
    container = await run(node, f"trap exit TERM; sleep {marker} & wait")
    link = kubelets.links[0]
    os.kill(link.pid, signal.SIGKILL)
    status = await node.end()
    assert (status.id, status.exit_code, status.reason) == (container, 137, LOST)
    assert node.runtime.list_pod_sandboxes() == []
    await until(lambda: processes(marker) == [])
    sandbox, _ = await node.sandbox()
    await node.start(sandbox, "/bin/sh", "-c", "exit 4")
    assert (await asyncio.wait_for(node.ends.get(), 60)).exit_code == 4


async def test_one_that_does_not_end_is_killed_and_its_containers_with_it(kubelets: Kubelets) -> None:
    kubelets.patience_seconds = 0.05
    node = await kubelets.one()
    marker = f"5{os.getpid()}5"
    await run(node, f"exec sleep {marker}")
    os.kill(kubelets.links[0].pid, signal.SIGSTOP)
    await node.runtime.close()
    await until(lambda: processes(marker) == [])
    assert not place.is_kept(node.root)
