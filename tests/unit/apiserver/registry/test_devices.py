"""Dynamic resource allocation: classes, claims, what is given to them, and what drivers offer."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.apiserver.registry.writing import Writer, changed

CLASSES = Writer("deviceclasses.resource.k8s.io", namespaced=False)
CLAIMS, TEMPLATES = Writer("resourceclaims.resource.k8s.io"), Writer("resourceclaimtemplates.resource.k8s.io")
SLICES = Writer("resourceslices.resource.k8s.io", namespaced=False)
RULES = Writer("devicetaintrules.resource.k8s.io", namespaced=False)
NOW = "2026-01-01T00:00:00Z"
DEVICE = {"driver": "d.example.com", "pool": "p", "device": "d"}


def named(**fields: Any) -> dict[str, Any]:
    return {"metadata": {"name": "x"}, **fields}


def claim(*requests: dict[str, Any], **devices: Any) -> dict[str, Any]:
    return named(spec={"devices": {"requests": list(requests), **devices}})


def exactly(name: str = "r", **fields: Any) -> dict[str, Any]:
    return {"name": name, "exactly": {"deviceClassName": "c", **fields}}


# --- claims


def test_one_device_is_claimed_unless_it_is_said_how_many() -> None:
    alternatives = {"name": "f", "firstAvailable": [{"name": "a", "deviceClassName": "c"}]}
    requests = CLAIMS.create(claim(exactly(), exactly("all", allocationMode="All"), alternatives))["spec"]["devices"]
    first, every, either = requests["requests"]
    assert (first["exactly"]["allocationMode"], first["exactly"]["count"]) == ("ExactCount", 1)
    assert "count" not in every["exactly"]
    assert either["firstAvailable"][0]["count"] == 1


def test_a_request_is_exact_or_has_alternatives() -> None:
    needed = "exactly one of `exactly` or `firstAvailable` is required"
    both = {**exactly(), "firstAvailable": [{"name": "a", "deviceClassName": "c"}]}
    assert CLAIMS.problems(claim({"name": "r"})) == [f"spec.devices.requests[0]: Required value: {needed}"]
    assert CLAIMS.problems(claim(both)) == [
        f"spec.devices.requests[0]: Invalid value: null: {needed}, but multiple fields are set"
    ]


def test_requests_have_different_names() -> None:
    assert CLAIMS.problems(claim(exactly(), exactly())) == ['spec.devices.requests[1]: Duplicate value: "r"']


def test_who_wants_all_does_not_count() -> None:
    assert CLAIMS.problems(claim(exactly(allocationMode="All", count=2))) == [
        "spec.devices.requests[0].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'"
    ]


@pytest.mark.parametrize("name", ["other", "f/b", "r/a/b"])
def test_a_constraint_is_of_requests_that_are_there(name: str) -> None:
    alternatives = {"name": "f", "firstAvailable": [{"name": "a", "deviceClassName": "c"}]}
    constraint = {"requests": ["r", "f", "f/a", name], "matchAttribute": "d.example.com/model"}
    assert CLAIMS.problems(claim(exactly(), alternatives, constraints=[constraint])) == [
        f'spec.devices.constraints[0].requests[3]: Invalid value: "{name}": must be the name of a request in the '
        "claim or the name of a request and a subrequest separated by '/'"
    ]


def test_an_attribute_that_is_matched_has_a_domain() -> None:
    assert CLAIMS.problems(claim(exactly(), constraints=[{"matchAttribute": "model"}])) == [
        'spec.devices.constraints[0].matchAttribute: Invalid value: "model": '
        "a fully qualified name must be a domain and a name separated by a slash"
    ]


def test_tolerations_are_dropped_as_the_feature_is_off() -> None:
    tolerating = exactly(tolerations=[{"key": "k", "operator": "Exists"}])
    assert "tolerations" not in CLAIMS.create(claim(tolerating))["spec"]["devices"]["requests"][0]["exactly"]


def test_what_is_claimed_stays() -> None:
    stored = CLAIMS.create(claim(exactly()))
    (problem,) = CLAIMS.update_problems(stored, changed(stored, "spec.devices.requests.0.name", "s"))
    assert problem.endswith(": field is immutable")


def test_devices_of_others_are_got_at_in_a_namespace_for_that() -> None:
    needed = "requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace"
    assert CLAIMS.problems(claim(exactly(adminAccess=True))) == [
        f"spec.devices.requests[0].adminAccess: Forbidden: admin access to devices {needed}"
    ]


def test_a_template_makes_claims_that_are_right() -> None:
    spec = claim(exactly(deviceClassName=""))["spec"]
    found = TEMPLATES.problems(named(spec={"metadata": {"name": "n", "labels": {"a": "b"}}, "spec": spec}))
    assert found == [
        "spec.metadata.name: Forbidden: cannot be set",
        "spec.spec.devices.requests[0].exactly.deviceClassName: Required value",
    ]


def test_a_selector_looks_at_a_device() -> None:
    def selecting(expression: str) -> list[str]:
        return CLAIMS.problems(claim(exactly(selectors=[{"cel": {"expression": expression}}])))

    assert not selecting("device.attributes['d.example.com'].model == 'x'")
    path = "spec.devices.requests[0].exactly.selectors[0].cel.expression"
    assert selecting("device.driver") == [
        f'{path}: Invalid value: "device.driver": must evaluate to bool or the unknown type, not string'
    ]
    assert "undefined field 'color'" in selecting("device.color == 'red'")[0]


# --- what is given


def given(**status: Any) -> list[str]:
    stored = CLAIMS.create(claim(exactly()))
    return CLAIMS.update_problems(stored, {**stored, "status": status}, subresource="status")


def allocation(**result: Any) -> dict[str, Any]:
    return {"devices": {"results": [{"request": "r", **DEVICE, **result}]}}


def test_devices_are_given_for_a_request() -> None:
    assert not given(allocation=allocation())
    assert given(allocation=allocation(request="s", pool=""))[1:] == [
        "status.allocation.devices.results[0].pool: Required value"
    ]


def test_nobody_reserves_what_was_not_given() -> None:
    consumer = {"resource": "pods", "name": "p", "uid": "u"}
    assert not given(allocation=allocation(), reservedFor=[consumer])
    assert given(reservedFor=[consumer, consumer]) == [
        'status.reservedFor[1]: Duplicate value: "u"',
        "status.reservedFor: Forbidden: may not be specified when `allocated` is not set",
    ]


def test_what_was_given_stays() -> None:
    stored = {**CLAIMS.create(claim(exactly())), "status": {"allocation": allocation()}}
    other = {**stored, "status": {"allocation": allocation(device="e")}}
    (problem,) = CLAIMS.update_problems(stored, other, subresource="status")
    assert problem.startswith("status.allocation: Invalid value: ")
    assert not CLAIMS.update_problems(stored, {**stored, "status": {}}, subresource="status")


def test_a_driver_tells_only_of_devices_that_were_given() -> None:
    (problem,) = given(allocation=allocation(device="e"), devices=[DEVICE])
    assert problem.startswith("status.devices[0]: Invalid value: ")
    assert problem.endswith(": must be an allocated device in the claim")


def test_what_is_told_of_a_device_goes_when_it_is_given_back() -> None:
    stored = {**CLAIMS.create(claim(exactly())), "status": {"allocation": allocation(), "devices": [DEVICE]}}
    freed = CLAIMS.update(stored, {**stored, "status": {"devices": [DEVICE]}}, subresource="status")
    assert freed["status"] == {}


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("10.0.0.1", "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)"),
        ("FD00::1/64", 'must be in canonical form ("fd00::1/64")'),
    ],
)
def test_an_interface_has_addresses_in_their_networks(address: str, problem: str) -> None:
    device = {**DEVICE, "networkData": {"ips": ["10.0.0.1/24", address]}}
    assert given(allocation=allocation(), devices=[device]) == [
        f'status.devices[0].networkData.ips[1]: Invalid value: "{address}": {problem}'
    ]


# --- classes


def test_a_class_configures_a_driver() -> None:
    opaque = {"driver": "d.example.com", "parameters": {"a": "b"}}
    assert not CLASSES.problems(named(spec={"config": [{"opaque": opaque}]}))
    assert CLASSES.problems(named(spec={"config": [{}, {"opaque": {"driver": "d.example.com"}}]})) == [
        "spec.config[0].opaque: Required value",
        "spec.config[1].opaque.parameters: Required value",
    ]


def test_parameters_have_their_limit_unless_they_were_stored() -> None:
    config = [{"opaque": {"driver": "d.example.com", "parameters": {"a": "x" * 10240}}}]
    too_long = "spec.config[0].opaque.parameters: Too long: may not be more than 10240 bytes"
    assert CLASSES.problems(named(spec={"config": config})) == [too_long]
    old = changed(CLASSES.create(named()), "spec.config", config)
    assert not CLASSES.update_problems(old, changed(old, "metadata.labels", {"a": "b"}))


# --- what drivers offer


def offer(*devices: dict[str, Any], **spec: Any) -> dict[str, Any]:
    pool = {"name": "p", "generation": 1, "resourceSliceCount": 1}
    return named(spec={"driver": "d.example.com", "pool": pool, "nodeName": "n", "devices": list(devices), **spec})


def test_which_nodes_get_at_devices_is_said_in_one_way() -> None:
    needed = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
    assert SLICES.problems(offer(nodeName=None)) == [f"spec: Required value: {needed}"]
    assert SLICES.problems(offer(allNodes=True)) == [
        f'spec: Invalid value: "{{`nodeName`, `allNodes`}}": {needed}, but multiple fields are set'
    ]


def test_an_attribute_has_one_value() -> None:
    device = {"name": "d", "attributes": {"a": {}, "b": {"int": 1, "bool": True}, "c": {"version": "1"}}}
    path = "spec.devices[0].attributes"
    assert SLICES.problems(offer(device)) == [
        f'{path}[a]: Invalid value: "": exactly one value must be specified',
        f'{path}[b]: Invalid value: {{"int":1,"bool":true}}: exactly one value must be specified',
        f'{path}[c].version: Invalid value: "1": must be a string compatible with semver.org spec 2.0.0',
    ]


def test_attributes_are_named_like_variables() -> None:
    (problem,) = SLICES.problems(offer({"name": "d", "capacity": {"d.example.com/not-so": {"value": "1"}}}))
    assert problem.startswith(
        'spec.devices[0].capacity[d.example.com/not-so]: Invalid value: "not-so": a valid C identifier must start'
    )


def test_a_device_has_so_many_attributes() -> None:
    many = {f"a{number}": {"int": number} for number in range(33)}
    assert SLICES.problems(offer({"name": "d", "attributes": many})) == [
        "spec.devices[0]: Invalid value: 33: the total number of attributes and capacities must not exceed 32"
    ]


def test_a_slice_stays_in_its_pool() -> None:
    stored = SLICES.create(offer())
    assert SLICES.update_problems(stored, changed(stored, "spec.pool.name", "q")) == [
        'spec.pool.name: Invalid value: "q": field is immutable'
    ]
    assert SLICES.update(stored, changed(stored, "spec.pool.generation", 2))["metadata"]["generation"] == 2


# --- taints


def test_a_taint_says_since_when() -> None:
    rule = named(spec={"taint": {"key": "k", "effect": "NoSchedule"}})
    assert RULES.create(rule)["spec"]["taint"]["timeAdded"] == NOW
    assert RULES.problems(named(spec={"taint": {"key": "k", "effect": "Explode"}})) == [
        'spec.taint.effect: Unsupported value: "Explode": supported values: "NoExecute", "NoSchedule", "None"'
    ]
