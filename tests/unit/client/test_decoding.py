import orjson
import pytest

from kubecore.api import scheme
from kubecore.client.decoding import decoder_of

METADATA = {
    "name": "a",
    "generateName": "a-",
    "namespace": "b",
    "uid": "u",
    "resourceVersion": "7",
    "generation": 2,
    "creationTimestamp": "2026-01-01T00:00:00Z",
    "deletionTimestamp": "2026-01-01T00:00:00Z",
    "deletionGracePeriodSeconds": 30,
    "labels": {"app": "web"},
    "annotations": {"note": "x"},
    "ownerReferences": [{"kind": "Deployment", "name": "d", "uid": "o", "apiVersion": "apps/v1"}],
    "finalizers": ["example.org/hold"],
}


@pytest.mark.parametrize("resource", ["pods", "nodes", "deployments.apps", "configmaps", "events"])
def test_all_of_an_object_is_kept_but_managed_fields(resource: str) -> None:
    known = scheme.default().resource(resource)
    obj = {"apiVersion": known.api_version, "kind": known.kind, "metadata": METADATA}
    rest = {"data": {"a": "1"}} if resource in ("configmaps", "events") else {"spec": {"a": [1]}, "status": {"b": None}}
    whole = {**obj, "metadata": {**METADATA, "managedFields": [{"manager": "m"}]}, **rest}
    assert decoder_of(known)(orjson.dumps(whole)) == {**obj, **rest}


@pytest.mark.parametrize("resource", ["pods", "configmaps"])
def test_items_of_a_list_get_their_kind(resource: str) -> None:
    known = scheme.default().resource(resource)
    decoded = decoder_of(known)(b'{"metadata":{"name":"a"}}')
    assert (decoded["apiVersion"], decoded["kind"]) == (known.api_version, known.kind)


def pod(uid: str = "u", *, spec: object, status: object = None) -> bytes:
    return orjson.dumps({"metadata": {"name": "a", "uid": uid}, "spec": spec, "status": status or {}})


def test_a_version_whose_spec_is_written_as_before_has_the_very_same() -> None:
    decoder = decoder_of(scheme.default().resource("pods"))
    first = decoder(pod(spec={"nodeName": "n"}))
    second = decoder(pod(spec={"nodeName": "n"}, status={"phase": "Running"}))
    assert second["spec"] is first["spec"]
    assert second["status"] == {"phase": "Running"}


@pytest.mark.parametrize("spec", [{"nodeName": "m"}, {}, None, {"nodeName": "n", "hostname": "x"}])
def test_another_spec_is_told_as_it_is(spec: object) -> None:
    decoder = decoder_of(scheme.default().resource("pods"))
    decoder(pod(spec={"nodeName": "n"}))
    assert decoder(pod(spec=spec))["spec"] == spec


def test_nothing_is_kept_of_what_is_forgotten() -> None:
    decoder = decoder_of(scheme.default().resource("pods"))
    first = decoder(pod(spec={"nodeName": "n"}))
    decoder.forget(first)
    second = decoder(pod(spec={"nodeName": "n"}))
    assert second["spec"] == first["spec"]
    assert second["spec"] is not first["spec"]


def test_what_is_broken_within_a_spec_is_an_error_and_nothing_is_kept_of_it() -> None:
    decoder = decoder_of(scheme.default().resource("pods"))
    with pytest.raises(ValueError, match="JSON"):
        decoder(b'{"metadata":{"name":"a","uid":"u"},"spec":{"a":nothing}}')
    assert decoder(pod(spec={"nodeName": "n"}))["spec"] == {"nodeName": "n"}
