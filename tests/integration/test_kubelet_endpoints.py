"""What a kubelet's port answers beside sessions: health, logs, commands, and what it says to odd requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.running_kubelet import Running, running_kubelet, shell


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Running]:
    async with running_kubelet(tmp_path) as running:
        yield running


async def post(node: Running, path: str) -> tuple[int, str]:
    return await node.get(path, method="POST")


async def test_health_is_told_by_its_checks_to_whoever_may_know_of_it(node: Running) -> None:
    node.api.rights.nodes |= {("prober", "get", "healthz")}
    for subject in ("kube-apiserver-kubelet-client", "prober"):
        assert await node.get("/healthz", subject) == (200, "ok")
        assert await node.get("/healthz/syncloop", subject) == (200, "ok")
        told = "[+]ping ok\n[+]log ok\n[+]syncloop ok\nhealthz check passed\n"
        assert await node.get("/healthz?verbose", subject) == (200, told)
    assert (await node.get("/healthz", "somebody"))[0] == 403


async def test_administrators_are_told_the_kubelets_metrics_alone(node: Running) -> None:
    _, text = await node.get("/metrics", group="system:masters")
    names = {line.split()[2].split("_")[0] for line in text.splitlines() if line.startswith("# TYPE")}
    assert "kubelet" in names
    assert "apiserver" not in names


async def test_how_well_it_has_been_is_told_to_whoever_may_know_its_metrics(node: Running) -> None:
    node.api.rights.nodes |= {("monitor", "get", "metrics"), ("prober", "get", "healthz")}
    await node.get("/healthz", "prober")
    code, text = await node.get("/metrics/slis", "monitor")
    assert (code, 'kubernetes_healthcheck{name="syncloop",type="healthz"} 1\n' in text) == (200, True)
    assert (await node.get("/metrics/slis", "monitor", method="POST"))[0] in (403, 405)
    assert (await node.get("/metrics/slis", "prober"))[0] == 403


async def test_the_nodes_log_folder_is_shown(node: Running) -> None:
    node.pod("hello", shell("echo from a container"))
    await node.phase("hello", "Succeeded")
    code, text = await node.get("/logs/")
    assert code == 200
    assert '<a href="containers/">containers/</a>\n<a href="pods/">pods/</a>\n' in text
    (link,) = (node.root / "var/log/containers").iterdir()
    code, text = await node.get(f"/logs/containers/{link.name}")
    assert (code, text.endswith(" stdout F from a container\n")) == (200, True)
    assert "<pre>" in (await node.get("/logs/pods"))[1]  # by way of /logs/pods/
    assert (await node.get("/logs/nothing"))[0] == 404
    assert (await node.get("/logs/", "somebody"))[0] == 403


async def test_nothing_outside_of_the_log_folder_is_shown(node: Running, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    folder = node.root / "var/log"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "away").symlink_to(tmp_path)
    (folder / "file").symlink_to(tmp_path / "secret")
    for path in ("away/secret", "away/", "file", "..%2f..%2f..%2fsecret", "%2fetc/passwd"):
        assert (await node.get(f"/logs/{path}"))[0] == 404, path


async def test_a_command_is_run_and_what_it_says_is_the_answer(node: Running) -> None:
    node.pod("there", shell("echo up; sleep 1000"))
    await node.said("there", "up")
    assert await post(node, "/run/default/there/main?cmd=echo%20a%20b") == (200, "a b\n")
    assert await post(node, "/run/default/there/uid/main?cmd=echo") == (200, "\n")
    assert await post(node, "/run/default/there/main?cmd=ls%20/nowhere") == (
        500,
        "command 'ls /nowhere' exited with 2: ls: cannot access '/nowhere': No such file or directory\n",
    )
    assert await post(node, "/run/default/there/other?cmd=true") == (500, 'container not found ("other")')
    assert await post(node, "/run/default/gone/main?cmd=true") == (404, "pod does not exist")
    assert (await node.get("/run/default/there/main?cmd=true"))[0] == 405


async def test_options_of_logs_that_are_none_are_refused(node: Running) -> None:
    node.pod("hello", shell("echo one; echo two"))
    await node.phase("hello", "Succeeded")
    logs = "/containerLogs/default/hello/main"
    assert await node.get(f"{logs}?tailLines=x") == (400, '{"message": "Unable to decode query."}')
    for query in ("tailLines=-1", "limitBytes=0", "sinceSeconds=0", "stream=Both", "stream=Stdout&tailLines=1"):
        assert await node.get(f"{logs}?{query}") == (422, '{"message": "Invalid request."}'), query
    gate = "Please enable PodLogsQuerySplitStreams feature gate in kubelet"
    assert await node.get(f"{logs}?stream=Stderr") == (400, f'unable to return the given log stream: "Stderr". {gate}')
    assert await node.get(f"{logs}?tail=1") == (200, "two\n")
    assert await node.get(f"{logs}?tail=all") == (200, "one\ntwo\n")
    assert await node.get("/containerLogs/default/hello/x") == (404, 'container "x" not found in pod "hello"')
    assert await node.get("/containerLogs/default/x/x") == (404, 'pod "x" does not exist')
    assert (await node.get("/containerLogs/default/hello"))[0] == 404
