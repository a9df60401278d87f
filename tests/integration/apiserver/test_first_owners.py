"""Whose the fields of a new object are: what a client has sent, not what Go's empty object shows in any case, nor what
the path cannot set (upstream: GetResetFields)."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Api, deployment

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]


async def owned(api: Api, resource: str, obj: JSON) -> JSON:
    """The fields of the one who has created it."""
    status, made = await api.create(resource, obj)
    assert status == 201, made
    entries = made["metadata"].get("managedFields", [])
    assert len(entries) <= 1
    fields: JSON = entries[0]["fieldsV1"] if entries else {}
    return fields


async def test_what_is_there_in_an_empty_object_is_nobodys(api: Api, cluster: Api) -> None:
    assert await owned(api, "v1/limitranges", {"metadata": {"name": "a"}, "spec": None}) == {}
    assert await owned(cluster, "rbac.authorization.k8s.io/v1/clusterroles", {"metadata": {"name": "owners"}}) == {}
    policy = {"metadata": {"name": "a"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}
    assert await owned(api, "networking.k8s.io/v1/networkpolicies", policy) == {"f:spec": {"f:policyTypes": {}}}
    template = deployment("a")["spec"]["template"]
    sets = {"metadata": {"name": "a"}, "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template}}
    assert "f:serviceName" not in (await owned(api, "apps/v1/statefulsets", sets))["f:spec"]
    sets["metadata"]["name"], sets["spec"]["serviceName"] = "b", "s"
    assert "f:serviceName" in (await owned(api, "apps/v1/statefulsets", sets))["f:spec"]


async def test_what_came_as_it_was_is_owned_as_a_whole(api: Api) -> None:
    revision = {"metadata": {"name": "a"}, "revision": 1, "data": {"spec": {"template": {}}}}
    assert await owned(api, "apps/v1/controllerrevisions", revision) == {"f:data": {}, "f:revision": {}}


async def test_the_status_of_a_new_node_is_nobodys(cluster: Api) -> None:
    node = {"metadata": {"name": "owners", "labels": {"a": "b"}}, "status": {"capacity": {"cpu": "1"}}}
    assert await owned(cluster, "v1/nodes", node) == {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}}
    assert (await cluster.get("v1/nodes", "owners"))[1]["status"]["capacity"] == {"cpu": "1"}


async def test_where_a_nodes_kubelet_had_its_configuration_from_is_dropped_and_owned(cluster: Api) -> None:
    """As upstream, which drops it after it has kept its books (pkg/registry/core/node/strategy.go)."""
    source = {"configMap": {"namespace": "n", "name": "m", "kubeletConfigKey": "k"}}
    node = {"metadata": {"name": "configured"}, "spec": {"configSource": source}}
    fields = await owned(cluster, "v1/nodes", node)
    below: JSON = {".": {}, "f:kubeletConfigKey": {}, "f:name": {}, "f:namespace": {}}
    assert fields == {"f:spec": {"f:configSource": {".": {}, "f:configMap": below}}}
    _, made = await cluster.get("v1/nodes", "configured")
    assert "configSource" not in made["spec"]
    _, changed = await cluster.patch("v1/nodes", "configured", {"spec": {"configSource": source}})
    assert "configSource" not in changed["spec"]


async def test_the_generation_of_a_daemon_sets_template_is_an_annotation_of_every_one(api: Api) -> None:
    """pkg/apis/apps/v1/conversion.go: "deprecated.daemonset.template.generation"."""
    template = deployment("a")["spec"]["template"]
    daemons = {"metadata": {"name": "a"}, "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template}}
    generation = "deprecated.daemonset.template.generation"
    fields = await owned(api, "apps/v1/daemonsets", daemons)
    assert fields["f:metadata"] == {"f:annotations": {".": {}, f"f:{generation}": {}}}
    # Who writes the status and leaves it out does not take it away.
    status = {"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 1, "numberReady": 0}
    _, after = await api.update("apps/v1/daemonsets", {**daemons, "status": status}, subresource="status")
    assert after["metadata"]["annotations"] == {generation: "1"}
    assert after["status"]["desiredNumberScheduled"] == 1


async def test_events_have_no_dependents(api: Api) -> None:
    """pkg/registry/core/event/strategy.go: rest.Unsupported."""
    involved = {"kind": "Pod", "namespace": api.namespace, "name": "p"}
    for policy in ("Foreground", "Orphan"):
        await api.create("v1/events", {"metadata": {"name": "e"}, "involvedObject": involved})
        status, _ = await api.delete("v1/events", "e", {"propagationPolicy": policy})
        assert status == 200
        assert (await api.get("v1/events", "e"))[0] == 404
