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


@pytest.mark.parametrize("resource", ["pods", "deployments.apps", "configmaps", "events"])
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
