"""ConfigMaps, Secrets, Namespaces, Nodes, Endpoints and EndpointSlices."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.unit.apiserver.registry.writing import Writer, changed

CONFIG_MAPS, SECRETS = Writer("configmaps"), Writer("secrets")
NAMESPACES, NODES = Writer("namespaces", namespaced=False), Writer("nodes", namespaced=False)
ENDPOINTS, SLICES = Writer("endpoints"), Writer("endpointslices.discovery.k8s.io")


def named(**fields: Any) -> dict[str, Any]:
    return {"metadata": {"name": "x"}, **fields}


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# --- ConfigMaps


def test_keys_of_a_config_map_can_be_file_names() -> None:
    assert not CONFIG_MAPS.problems(named(data={"a.conf": "1", "UPPER_lower-1": "2"}))
    assert "a valid config key must consist of" in CONFIG_MAPS.problems(named(data={"a/b": "1"}))[0]
    assert CONFIG_MAPS.problems(named(data={"..": "1"}))[0].endswith("must not be '..'")


def test_a_key_is_text_or_binary_not_both() -> None:
    (problem,) = CONFIG_MAPS.problems(named(data={"a": "1"}, binaryData={"a": "MQ=="}))
    assert problem == 'data[a]: Invalid value: "a": duplicate of key present in binaryData'


def test_a_config_map_holds_a_mebibyte() -> None:
    assert not CONFIG_MAPS.problems(named(data={"a": "x" * 1048576}))
    assert CONFIG_MAPS.problems(named(data={"a": "x" * 1048577})) == [
        "[]: Too long: may not be more than 1048576 bytes"
    ]


@pytest.mark.parametrize(("writer", "value"), [(CONFIG_MAPS, "2"), (SECRETS, b64("2"))])
def test_immutable_contents_stay(writer: Writer, value: str) -> None:
    stored = writer.create(named(data={"a": b64("1")}, immutable=True))
    assert writer.update_problems(stored, changed(stored, "data.a", value)) == [
        "data: Forbidden: field is immutable when `immutable` is set"
    ]
    assert writer.update_problems(stored, changed(stored, "immutable", False)) == [
        "immutable: Forbidden: field is immutable when `immutable` is set"
    ]
    assert not writer.update_problems(stored, changed(stored, "metadata.labels", {"a": "b"}))


# --- Secrets


def test_string_data_is_merged_into_data() -> None:
    stored = SECRETS.create(named(data={"a": b64("old"), "b": b64("kept")}, stringData={"a": "new"}))
    assert stored["data"] == {"a": b64("new"), "b": b64("kept")}
    assert "stringData" not in stored
    assert stored["type"] == "Opaque"


def test_the_type_of_a_secret_stays() -> None:
    stored = SECRETS.create(named())
    assert SECRETS.update_problems(stored, changed(stored, "type", "example.com/other")) == [
        'type: Invalid value: "example.com/other": field is immutable'
    ]


@pytest.mark.parametrize(
    ("kind", "data", "problem"),
    [
        ("kubernetes.io/tls", {"tls.crt": "eA=="}, "data[tls.key]: Required value"),
        ("kubernetes.io/ssh-auth", {}, "data[ssh-privatekey]: Required value"),
        ("kubernetes.io/basic-auth", {}, "data[username]: Required value"),
        ("kubernetes.io/dockerconfigjson", {}, "data[.dockerconfigjson]: Required value"),
        ("kubernetes.io/dockercfg", {".dockercfg": "eA=="}, 'data[.dockercfg]: Invalid value: "<secret contents'),
        (
            "kubernetes.io/service-account-token",
            {},
            "metadata.annotations[kubernetes.io/service-account.name]: Required value",
        ),
    ],
)
def test_a_typed_secret_holds_what_its_type_promises(kind: str, data: dict[str, str], problem: str) -> None:
    found = SECRETS.problems(named(type=kind, data=data))
    assert found
    assert found[0].startswith(problem)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "unexpected end of JSON input"),
        ("a", "invalid character 'a' looking for beginning of value"),
        ('{"a" 1}', "invalid character '1' after object key"),
        ("{}x", "invalid character 'x' after top-level value"),
        ("[]", "json: cannot unmarshal array into Go value of type map[string]interface {}"),
    ],
)
def test_what_is_no_docker_config_is_told_in_gos_words(text: str, words: str) -> None:
    found = SECRETS.problems(named(type="kubernetes.io/dockercfg", data={".dockercfg": b64(text)}))
    assert found == [f'data[.dockercfg]: Invalid value: "<secret contents redacted>": {words}']


def test_null_is_a_docker_config() -> None:
    assert not SECRETS.problems(named(type="kubernetes.io/dockercfg", data={".dockercfg": b64(" null")}))


# --- Namespaces


def test_a_namespace_is_active_labelled_with_its_name_and_held_by_its_finalizer() -> None:
    stored = NAMESPACES.create(named())
    assert stored["metadata"]["labels"] == {"kubernetes.io/metadata.name": "x"}
    assert (stored["spec"], stored["status"]) == ({"finalizers": ["kubernetes"]}, {"phase": "Active"})
    assert NAMESPACES.strategy.holds_deletion(stored)


def test_an_update_cannot_take_the_namespaces_finalizer_away() -> None:
    stored = NAMESPACES.create(named())
    assert NAMESPACES.update(stored, changed(stored, "spec", {}))["spec"] == {"finalizers": ["kubernetes"]}


def test_a_namespace_being_deleted_is_terminating() -> None:
    stored = NAMESPACES.create(named())
    NAMESPACES.strategy.mark_deleting(NAMESPACES.context("delete", "x"), stored)
    assert stored["status"]["phase"] == "Terminating"


def test_a_namespaces_name_is_a_label() -> None:
    assert NAMESPACES.problems({"metadata": {"name": "a.b"}}) == [
        'metadata.name: Invalid value: "a.b": must not contain dots'
    ]
    assert "RFC 1123 label" in NAMESPACES.problems({"metadata": {"name": "a_b"}})[0]


# --- Nodes


def test_a_node_registers_itself_with_its_status() -> None:
    stored = NODES.create(named(status={"capacity": {"cpu": "2000m"}}))
    assert stored["status"] == {"capacity": {"cpu": "2"}, "allocatable": {"cpu": "2"}}


def test_taints_of_one_key_and_effect_are_given_once() -> None:
    taint = {"key": "k", "effect": "NoSchedule"}
    assert NODES.problems(named(spec={"taints": [taint, {**taint, "value": "v"}]}))[0].startswith(
        "metadata.taints[1]: Duplicate value: "
    )
    assert NODES.problems(named(spec={"taints": [{"key": "k", "effect": "Never"}]})) == [
        'metadata.taints[0].effect: Unsupported value: "Never": '
        'supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"'
    ]


def test_a_nodes_pod_range_stays() -> None:
    stored = NODES.create(named(spec={"podCIDR": "10.244.0.0/24"}))
    assert stored["spec"]["podCIDRs"] == ["10.244.0.0/24"]
    moved = changed(changed(stored, "spec.podCIDR", "10.244.1.0/24"), "spec.podCIDRs", ["10.244.1.0/24"])
    assert NODES.update_problems(stored, moved)[0].startswith("spec.podCIDRs: Forbidden: node updates may not change")


# --- Endpoints and EndpointSlices


def test_ports_of_endpoints_are_tcp_by_default() -> None:
    stored = ENDPOINTS.create(named(subsets=[{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]))
    assert stored["subsets"][0]["ports"] == [{"port": 80, "protocol": "TCP"}]


def test_endpoints_need_addresses_that_can_be_reached() -> None:
    assert ENDPOINTS.problems(named(subsets=[{"ports": [{"port": 80}]}])) == [
        "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"
    ]
    problem, *_ = ENDPOINTS.problems(named(subsets=[{"addresses": [{"ip": "nowhere"}]}]))
    assert problem.startswith('subsets[0].addresses[0].ip: Invalid value: "nowhere": must be a valid IP address')
    # In loopback mode pods have such addresses.
    assert not ENDPOINTS.problems(named(subsets=[{"addresses": [{"ip": "127.65.0.2"}]}]))


def slice_of(**fields: Any) -> dict[str, Any]:
    return named(addressType="IPv4", endpoints=[{"addresses": ["10.0.0.1"]}], ports=[{"port": 80}], **fields)


def test_a_slices_ports_get_their_defaults_and_its_changes_are_counted() -> None:
    stored = SLICES.create(slice_of())
    assert stored["ports"] == [{"port": 80, "name": "", "protocol": "TCP"}]
    assert stored["metadata"]["generation"] == 1
    assert SLICES.update(stored, changed(stored, "endpoints", []))["metadata"]["generation"] == 2
    assert SLICES.update(stored, changed(stored, "metadata.annotations", {"a": "b"}))["metadata"]["generation"] == 1


def test_a_slices_addresses_are_of_its_type() -> None:
    found = SLICES.problems(named(addressType="IPv6", endpoints=[{"addresses": ["10.0.0.1"]}]))
    assert found == ['endpoints[0].addresses: Invalid value: "10.0.0.1": must be an IPv6 address']
    stored = SLICES.create(slice_of())
    assert SLICES.update_problems(stored, changed(changed(stored, "addressType", "FQDN"), "endpoints", [])) == [
        'addressType: Invalid value: "FQDN": field is immutable'
    ]
