"""Objects without a spec have an empty one, as Go marshals them, and no field that is taken away breaks the server."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import Api, deployment, pod

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]
JOB: JSON = {"template": {"spec": {**pod("x")["spec"], "restartPolicy": "Never"}}}
CLAIM: JSON = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
BUDGET: JSON = {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}
SCALER: JSON = {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}
SELECTED: JSON = {key: value for key, value in deployment("s")["spec"].items() if key != "replicas"}

SPECS: dict[str, JSON] = {
    "v1/pods": pod("s")["spec"],
    "v1/services": {"ports": [{"port": 80}]},
    "v1/replicationcontrollers": {"selector": {"app": "s"}, "template": SELECTED["template"]},
    "v1/persistentvolumeclaims": CLAIM,
    "v1/resourcequotas": {"hard": {"pods": "10"}},
    "v1/limitranges": {"limits": [{"type": "Container"}]},
    "apps/v1/deployments": SELECTED,
    "apps/v1/replicasets": SELECTED,
    "apps/v1/daemonsets": SELECTED,
    "apps/v1/statefulsets": {**SELECTED, "serviceName": "s"},
    "batch/v1/jobs": JOB,
    "batch/v1/cronjobs": {"schedule": "* * * * *", "jobTemplate": {"spec": JOB}},
    "policy/v1/poddisruptionbudgets": BUDGET,
    "autoscaling/v2/horizontalpodautoscalers": SCALER,
    "networking.k8s.io/v1/networkpolicies": {"podSelector": {}},
    "networking.k8s.io/v1/ingresses": {"defaultBackend": {"service": {"name": "a", "port": {"number": 80}}}},
    "coordination.k8s.io/v1/leases": {"holderIdentity": "x"},
}
JUNK: tuple[Any, ...] = (None, {}, [], "", -1, "é!", [None], [{}], {"a": None})


BARE = ("v1/resourcequotas", "coordination.k8s.io/v1/leases", "policy/v1/poddisruptionbudgets")


@pytest.mark.parametrize("resource", BARE)
async def test_an_object_without_a_spec_has_an_empty_one(api: Api, resource: str) -> None:
    status, made = await api.create(resource, {"metadata": {"name": "bare"}})
    assert status == 201, made
    assert made["spec"] == {}


async def test_pods_are_made_beside_a_quota_without_a_spec(api: Api) -> None:
    await api.create("v1/resourcequotas", {"metadata": {"name": "bare"}})
    assert (await api.create("v1/pods", pod("a")))[0] == 201


async def test_a_patch_that_takes_the_spec_away_is_refused_with_what_is_missing(api: Api) -> None:
    await api.create("apps/v1/deployments", deployment("d"))
    status, answer = await api.patch("apps/v1/deployments", "d", {"spec": None})
    assert (status, answer["reason"]) == (422, "Invalid")
    assert "spec.selector: Required value" in answer["message"]


def places(value: Any, *at: str | int) -> Iterator[tuple[str | int, ...]]:
    """Of all that is below a value."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in below:
        yield (*at, key)
        yield from places(one, *at, key)


@pytest.mark.slow
@pytest.mark.parametrize("resource", SPECS)
async def test_junk_in_any_place_of_an_object_is_no_internal_error(api: Api, resource: str) -> None:
    """Each field is taken away and replaced by what does not belong there, in an update and in a create."""
    status, made = await api.create(resource, {"metadata": {"name": "s"}, "spec": SPECS[resource]})
    assert status == 201, made
    whole = {"apiVersion": made["apiVersion"], "kind": made["kind"], "spec": made["spec"]}
    broken: list[Any] = []
    for at in places(whole):
        pointer = "/" + "/".join(str(step).replace("~", "~0").replace("/", "~1") for step in at)
        removal = [{"op": "remove", "path": pointer}]
        answers = [await api.patch(resource, "s", removal, kind="json-patch", dryRun="All")]
        for junk in JUNK:
            replacement = [{"op": "replace", "path": pointer, "value": junk}]
            answers.append(await api.patch(resource, "s", replacement, kind="json-patch", dryRun="All"))
            given = {**copy.deepcopy(whole), "metadata": {"name": "t"}}
            place: Any = given
            for step in at[:-1]:
                place = place[step]
            place[at[-1]] = junk
            answers.append(await api.create(resource, given, dryRun="All"))
        broken += [(pointer, answer["message"]) for code, answer in answers if code >= 500]
    assert broken == []
    assert (await api.get(resource, "s"))[1]["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


async def test_what_is_applied_without_a_spec_is_judged_like_what_is_created(api: Api) -> None:
    for resource, kind in (("v1/pods", "Pod"), ("apps/v1/deployments", "Deployment"), ("v1/services", "Service")):
        body = {"apiVersion": resource.rpartition("/")[0], "kind": kind, "metadata": {"name": "bare"}}
        path = api.path(resource, "bare")
        status, answer = await api.call("PATCH", path, body, "application/apply-patch+yaml", fieldManager="m")
        assert (status, answer["reason"]) == (422, "Invalid")
        assert "Required value" in answer["message"]


@pytest.mark.parametrize(
    ("resource", "empty", "way"),
    [
        ("rbac.authorization.k8s.io/v1/roles", {"rules": []}, ("rules",)),
        ("v1/limitranges", {"spec": {"limits": []}}, ("spec", "limits")),
        ("discovery.k8s.io/v1/endpointslices", {"addressType": "IPv4", "endpoints": []}, ("endpoints",)),
        ("discovery.k8s.io/v1/endpointslices", {"addressType": "IPv4", "endpoints": [], "ports": []}, ("ports",)),
    ],
)
async def test_an_empty_list_that_is_always_there_is_none(
    api: Api, resource: str, empty: JSON, way: tuple[str, ...]
) -> None:
    """Upstream's storage, of messages in protobuf, does not tell one from the other."""

    def shown(obj: JSON) -> object:
        found: Any = obj
        for name in way:
            found = found[name]
        return found

    status, made = await api.create(resource, {"metadata": {"name": "empty"}, **empty})
    assert (status, shown(made)) == (201, None), made
    status, again = await api.update(resource, {**made, **empty})
    assert (status, again) == (200, made)


IN_POD: JSON = {"template": {"spec": {"volumes": [{"name": "v", "projected": {"sources": []}}]}}}
IN_JOB: JSON = {"podFailurePolicy": {"rules": []}}


@pytest.mark.parametrize(
    ("resource", "empty"),
    [
        *((f"apps/v1/{plural}", IN_POD) for plural in ("deployments", "statefulsets", "daemonsets", "replicasets")),
        ("v1/replicationcontrollers", IN_POD),
        ("batch/v1/jobs", IN_POD),
        ("batch/v1/jobs", IN_JOB),
        ("batch/v1/cronjobs", {"jobTemplate": {"spec": IN_JOB}}),
    ],
)
async def test_an_empty_list_that_is_sent_again_changes_no_spec(api: Api, resource: str, empty: JSON) -> None:
    def with_empty(spec: JSON, more: JSON = empty) -> JSON:
        lists = {name: with_empty(spec.get(name) or {}, v) if isinstance(v, dict) else v for name, v in more.items()}
        return {**spec, **lists}

    given = {"metadata": {"name": "again"}, "spec": with_empty(SPECS[resource])}
    status, made = await api.create(resource, given)
    assert (status, made["metadata"]["generation"]) == (201, 1), made
    assert await api.update(resource, {**made, "spec": with_empty(made["spec"])}) == (200, made)
    path, applied = api.path(resource, "again"), {"apiVersion": made["apiVersion"], "kind": made["kind"], **given}
    how = {"fieldManager": "m", "force": "true"}
    for _ in "ab":
        status, answer = await api.call("PATCH", path, applied, "application/apply-patch+yaml", **how)
        assert status == 200, answer
        assert answer["metadata"]["generation"] == 1
