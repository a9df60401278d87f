"""APIServices of what the server serves itself, and what may be written in one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubecore.api import scheme
from kubecore.apiserver.aggregation.registration import MANAGED
from kubecore.apiserver.server import APIServer

from .conftest import Api
from .definitions import DEFINITIONS, crd, define, version
from .serving import served

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]
SERVICES = "apiregistration.k8s.io/v1/apiservices"
LOCAL = {"reason": "Local", "message": "Local APIServices are always available", "status": "True", "type": "Available"}


def remote(group: str = "wardle.example.com", **spec: Any) -> JSON:
    given = {
        "group": group,
        "version": "v1alpha1",
        "groupPriorityMinimum": 1000,
        "versionPriority": 15,
        "service": {"namespace": "wardle", "name": "api"},
        **spec,
    }
    return {"metadata": {"name": f"v1alpha1.{group}"}, "spec": {k: v for k, v in given.items() if v is not None}}


async def until_judged(api: Api, name: str) -> JSON:
    """Once the server has written whether it is available, after which it writes no more of its own accord."""
    query = {"fieldSelector": f"metadata.name={name}", "resourceVersion": "0"}
    async for _ in api.transport.watch(f"/apis/{SERVICES}", query=query):
        _, found = await api.get(SERVICES, name)
        if found.get("status", {}).get("conditions"):
            return found
    raise AssertionError("the watch ended")


async def until_registered(api: Api, name: str, wanted: bool = True) -> JSON:
    """The APIService once it is there, or {} once it is not."""
    query = {"fieldSelector": f"metadata.name={name}"}
    status, found = await api.get(SERVICES, name)
    if (status == 200) == wanted:
        return found if wanted else {}
    if status == 200:  # it may be gone by now, which a watch that begins now does not tell
        query["resourceVersion"] = found["metadata"]["resourceVersion"]
    async for batch in api.transport.watch(f"/apis/{SERVICES}", query=query):
        if any(event.type == ("ADDED" if wanted else "DELETED") for event in batch):
            return (await api.get(SERVICES, name))[1] if wanted else {}
    raise AssertionError("the watch ended")


async def test_each_built_in_version_has_one_that_is_local_and_available(cluster: Api) -> None:
    _, found = await cluster.list(SERVICES)
    versions = {f"{version}.{group.name}" for group in scheme.every().groups() for version in group.versions}
    items = [one for one in found["items"] if one["metadata"]["labels"].get(MANAGED) == "onstart"]
    assert {one["metadata"]["name"] for one in items} <= versions - {"v1.apiregistration.k8s.io"}
    assert {"v1.", "v1.apps", "v2.autoscaling", "v1.resource.k8s.io"} <= {one["metadata"]["name"] for one in items}
    for one in items:
        (condition,) = one["status"]["conditions"]
        assert condition.pop("lastTransitionTime")
        assert condition == LOCAL
    _, apps = await cluster.get(SERVICES, "v1.apps")
    assert apps["spec"] == {"group": "apps", "groupPriorityMinimum": 17800, "version": "v1", "versionPriority": 15}


async def test_the_one_of_the_core_group_has_no_group(cluster: Api) -> None:
    _, core = await cluster.get(SERVICES, "v1.")
    assert core["spec"] == {"groupPriorityMinimum": 18000, "version": "v1", "versionPriority": 1}


async def test_a_name_to_be_made_is_judged_as_a_name(cluster: Api) -> None:
    made = {"metadata": {"generateName": "v1alpha1."}, "spec": remote()["spec"]}
    status, refused = await cluster.create(SERVICES, made)
    assert status == 422
    causes = [(one["field"], one["message"].rpartition(": ")[2]) for one in refused["details"]["causes"]]
    assert causes == [(f"metadata.{field}", '"v1alpha1.wardle.example.com"') for field in ("generateName", "name")]
    status, refused = await cluster.create(SERVICES, {"metadata": {}, "spec": remote()["spec"]})
    assert [one["field"] for one in refused["details"]["causes"]] == ["metadata.name"]


async def test_versions_that_a_definition_serves_come_and_go_with_it(cluster: Api) -> None:
    group = "registered.example.com"
    beta = version("v1beta1", storage=False)
    await define(cluster, crd("gadgets", "Gadget", version(), beta, group=group))
    made = await until_registered(cluster, f"v1beta1.{group}")
    assert made["metadata"]["labels"] == {MANAGED: "true"}
    assert (made["spec"]["groupPriorityMinimum"], made["spec"]["versionPriority"]) == (1000, 100)
    await cluster.patch(DEFINITIONS, f"gadgets.{group}", {"spec": {"versions": [version()]}})
    await until_registered(cluster, f"v1beta1.{group}", wanted=False)
    await until_registered(cluster, f"v1.{group}")
    await cluster.delete(DEFINITIONS, f"gadgets.{group}")
    await until_registered(cluster, f"v1.{group}", wanted=False)


async def test_one_of_a_definition_that_is_deleted_or_changed_is_put_right(cluster: Api) -> None:
    group = "kept.example.com"
    name = f"v1.{group}"
    await define(cluster, crd("gadgets", "Gadget", group=group))
    before = await until_registered(cluster, name)
    await cluster.delete(SERVICES, name)
    after = await until_registered(cluster, name)
    while after["metadata"]["uid"] == before["metadata"]["uid"]:
        after = await until_registered(cluster, name)
    async for batch in cluster.transport.watch(f"/apis/{SERVICES}", query={"fieldSelector": f"metadata.name={name}"}):
        if any(event.type == "ADDED" for event in batch):
            await cluster.patch(SERVICES, name, {"spec": {"versionPriority": 7}})
        elif b'"versionPriority":100' in batch[-1].object:
            break
    _, held = await cluster.get(SERVICES, name)
    assert (held["spec"], held["metadata"]["labels"]) == (before["spec"], {MANAGED: "true"})
    await cluster.delete(DEFINITIONS, f"gadgets.{group}")


async def test_a_second_start_puts_right_what_was_made_at_the_first_and_leaves_what_is_someones_own(
    tmp_path: Path,
) -> None:
    def api(server: APIServer) -> Api:
        return Api(server.transport(username="admin", groups=["system:masters"]), "")

    async with served(tmp_path) as server:
        await api(server).patch(SERVICES, "v1.apps", {"spec": {"versionPriority": 7}})
        await api(server).patch(
            SERVICES, "v1.batch", {"metadata": {"labels": {MANAGED: None}}, "spec": {"versionPriority": 7}}
        )
        await api(server).delete(SERVICES, "v1.policy")
        await api(server).create(SERVICES, remote())
        left = remote("gone.example.com", service=None)
        left["metadata"]["labels"] = {MANAGED: "onstart"}
        await api(server).create(SERVICES, left)
    async with served(tmp_path) as server:
        _, found = await api(server).list(SERVICES)
        priorities = {one["metadata"]["name"]: one["spec"]["versionPriority"] for one in found["items"]}
        assert (priorities["v1.apps"], priorities["v1.batch"], priorities["v1.policy"]) == (15, 7, 15)
        assert "v1alpha1.wardle.example.com" in priorities
        assert "v1alpha1.gone.example.com" not in priorities


async def test_a_remote_one_gets_port_443_and_says_nothing_of_its_availability(cluster: Api) -> None:
    group = "defaulted.example.com"
    sent = remote(group)
    sent["status"] = {"conditions": [{**LOCAL, "lastTransitionTime": None}]}
    status, made = await cluster.create(SERVICES, sent, dryRun="All")
    assert status == 201, made
    assert made["spec"]["service"]["port"] == 443
    assert not made["status"]
    status, made = await cluster.create(SERVICES, remote(group, service=None), dryRun="All")
    assert made["status"]["conditions"][0]["reason"] == "Local"


BUNDLE = "Y2VydGlmaWNhdGU="
REFUSED: dict[str, tuple[JSON, str]] = {
    "a name that is not its version and group": (
        {**remote(), "metadata": {"name": "v1.wardle.example.com"}},
        'metadata.name: Invalid value: "v1.wardle.example.com": must be `spec.version+"."+spec.group`: '
        '"v1alpha1.wardle.example.com"',
    ),
    "no group": (
        {"metadata": {"name": "v2."}, "spec": {**remote()["spec"], "group": "", "version": "v2"}},
        "spec.group: Required value: only v1 may have an empty group and it better be legacy kube",
    ),
    "a group priority that is none": (
        remote(groupPriorityMinimum=0),
        "spec.groupPriorityMinimum: Invalid value: 0: must be positive and less than 20000",
    ),
    "a version priority that is too high": (
        remote(versionPriority=1001),
        "spec.versionPriority: Invalid value: 1001: must be positive and less than 1000",
    ),
    "a bundle for a local one": (
        remote(service=None, caBundle=BUNDLE),
        'spec.caBundle: Invalid value: "11 bytes": local APIServices may not have a caBundle',
    ),
    "unverified and local": (
        remote(service=None, insecureSkipTLSVerify=True),
        "spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify",
    ),
    "both a bundle and unverified": (
        remote(caBundle=BUNDLE, insecureSkipTLSVerify=True),
        "spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present",
    ),
    "a service without a name": (
        remote(service={"namespace": "wardle"}),
        "spec.service.name: Required value",
    ),
    "a port that is none": (
        remote(service={"namespace": "wardle", "name": "api", "port": 70000}),
        "spec.service.port: Invalid value: 70000: port is not valid: must be between 1 and 65535, inclusive",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_refused(cluster: Api, case: str) -> None:
    sent, told = REFUSED[case]
    status, answer = await cluster.create(SERVICES, sent)
    name = sent["metadata"]["name"]
    assert (status, answer["message"]) == (422, f'APIService.apiregistration.k8s.io "{name}" is invalid: {told}')


async def test_a_status_says_true_false_or_unknown_and_changes_nothing_else(cluster: Api) -> None:
    group = "status.example.com"
    await cluster.create(SERVICES, remote(group))
    made = await until_judged(cluster, name := f"v1alpha1.{group}")
    made["status"] = {"conditions": [{"type": "Available", "status": "Maybe"}]}
    status, answer = await cluster.update(SERVICES, made, "status")
    assert status == 422
    told = 'status.conditions[0].status: Unsupported value: "Maybe": supported values: "True", "False", "Unknown"'
    assert told in answer["message"]
    made["status"]["conditions"][0]["status"] = "Unknown"
    made["metadata"]["labels"] = {"a": "b"}
    made["spec"]["versionPriority"] = 20
    status, changed = await cluster.update(SERVICES, made, "status")
    assert status == 200, changed
    assert "labels" not in changed["metadata"]
    assert changed["spec"]["versionPriority"] == 15
    await cluster.delete(SERVICES, name)


async def test_a_put_without_a_revision_is_refused(cluster: Api) -> None:
    group = "put.example.com"
    await cluster.create(SERVICES, remote(group))
    status, answer = await cluster.update(SERVICES, remote(group))
    assert (status, answer["reason"]) == (422, "Invalid")
    assert "metadata.resourceVersion: Invalid value" in answer["message"]
    await cluster.delete(SERVICES, f"v1alpha1.{group}")
