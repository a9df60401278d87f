"""What a path cannot set is nobody's through it (upstream: each strategy's GetResetFields; checked beside
kube-apiserver v1.35)."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from .conftest import Api, config_map

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]
REQUESTS = "certificates.k8s.io/v1/certificatesigningrequests"
CIDRS = "networking.k8s.io/v1/servicecidrs"


def signing_request(name: str) -> JSON:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "someone")])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject)
    pem = made.sign(ed25519.Ed25519PrivateKey.generate(), None).public_bytes(Encoding.PEM)
    spec = {"request": base64.b64encode(pem).decode(), "signerName": "example.com/signer", "usages": ["any"]}
    return {**named("CertificateSigningRequest", "certificates.k8s.io/v1", name), "spec": spec}


def named(kind: str, api_version: str, name: str) -> JSON:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}}


async def applied(api: Api, resource: str, obj: JSON, part: str = "") -> dict[str, JSON]:
    """Who owns what after it was applied."""
    path = api.path(resource, obj["metadata"]["name"], part)
    kind = "application/apply-patch+yaml"
    status, made = await api.call("PATCH", path, orjson.dumps(obj), kind, fieldManager="f")
    assert status == 200, made
    return {one["manager"]: one["fieldsV1"] for one in made["metadata"].get("managedFields", [])}


async def test_the_spec_of_a_certificate_request_is_nobodys(cluster: Api) -> None:
    """Not even the one's who had it before anybody applied."""
    request = signing_request("owned")
    await cluster.create(REQUESTS, request)
    assert await applied(cluster, REQUESTS, request) == {}


async def test_an_approval_is_of_conditions_and_not_of_the_certificate(cluster: Api) -> None:
    request = signing_request("approved")
    await cluster.create(REQUESTS, request)
    assert await applied(cluster, REQUESTS, request, "approval") == {}
    approved = {"type": "Approved", "status": "True", "reason": "r", "message": "m"}
    head = named("CertificateSigningRequest", "certificates.k8s.io/v1", "approved")
    status = {"conditions": [approved], "certificate": "YQ=="}
    owners = await applied(cluster, REQUESTS, {**head, "status": status}, "approval")
    assert owners["f"]["f:status"].keys() == {"f:conditions"}


async def test_who_applies_the_status_of_a_service_range_owns_the_spec_too(cluster: Api) -> None:
    """Upstream resets its fields under a group that there is not."""
    cidr = {**named("ServiceCIDR", "networking.k8s.io/v1", "own"), "spec": {"cidrs": ["10.97.0.0/16"]}}
    await cluster.create(CIDRS, cidr)
    assert (await applied(cluster, CIDRS, cidr, "status"))["f"] == {"f:spec": {"f:cidrs": {}}}


@pytest.mark.parametrize("fields", ["x", 5, [], True])
async def test_fields_that_are_no_set_are_taken_for_none(api: Api, fields: object) -> None:
    await api.create("v1/configmaps", config_map("a", k="v"), fieldManager="me")
    entry = {"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields}
    forged = config_map("a", k="w")
    forged["metadata"]["managedFields"] = [entry]
    status, made = await api.update("v1/configmaps", forged, fieldManager="me")
    assert status == 200
    assert [one["fieldsV1"] for one in made["metadata"]["managedFields"]] == [{"f:data": {".": {}, "f:k": {}}}]


async def test_what_a_revision_holds_is_an_object(api: Api) -> None:
    revision = {"metadata": {"name": "a"}, "revision": 1, "data": [1]}
    status, refused = await api.create("apps/v1/controllerrevisions", revision)
    assert status == 422
    (cause,) = refused["details"]["causes"]
    assert (cause["field"], cause["message"]) == ("data", "Required value: data must be a valid JSON object")
