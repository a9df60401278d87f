"""Beta and alpha versions, which are served where `--runtime-config` says so."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from kubecore.apiserver.config import APIServerConfig
from kubecore.apiserver.server import APIServer
from kubecore.apiserver.storage.lmdb import LMDBConfig
from kubecore.client.client import Client
from kubecore.client.discovery import custom_resources
from kubecore.clock import RealClock
from tests.support.pod_certificates import condition, request

from .conftest import Api
from .http import Http

pytestmark = pytest.mark.asyncio

CANDIDATES = "/apis/coordination.k8s.io/v1beta1/namespaces/default/leasecandidates"
CANDIDATE = {
    "metadata": {"name": "c"},
    "spec": {
        "leaseName": "l",
        "binaryVersion": "1.35.0",
        "emulationVersion": "1.35.0",
        "strategy": "OldestEmulationVersion",
    },
}


async def started(directory: Path, **runtime_config: str) -> APIServer:
    settings = tuple((key.replace("__", "/"), value) for key, value in runtime_config.items())
    config = APIServerConfig(data_dir=directory, secure_port=0, storage=LMDBConfig(sync=False), runtime_config=settings)
    server = APIServer(config, RealClock())
    await server.start()
    return server


async def test_a_beta_version_is_served_when_turned_on_and_keeps_its_objects_while_it_is_off(tmp_path: Path) -> None:
    for turned_on in (True, False, True):
        server = await started(tmp_path, **({"api__beta": "true"} if turned_on else {}))
        try:
            transport = server.transport(username="admin", groups=["system:masters"])
            status, body = await transport.request("GET", CANDIDATES)
            assert status == (200 if turned_on else 404)
            if turned_on and not orjson.loads(body)["items"]:
                status, body = await transport.request("POST", CANDIDATES, body=orjson.dumps(CANDIDATE))
                assert status == 201, body
                kept = orjson.loads(body)["metadata"]["uid"]
        finally:
            await server.stop()
    assert orjson.loads(body)["items"][0]["metadata"]["uid"] == kept


async def test_components_learn_of_what_is_turned_on(tmp_path: Path) -> None:
    server = await started(tmp_path, api__beta="true")
    try:
        client = Client(server.transport(username="admin", groups=["system:masters"]), field_manager="t")
        learnt = {resource.key: resource.version for resource in (await custom_resources(client))[0]}
        assert learnt["leasecandidates.coordination.k8s.io"] == "v1beta1"
        # what is there by default is spoken in the version that is
        assert "resourceclaims.resource.k8s.io" not in learnt
    finally:
        await server.stop()


async def test_pods_certificates_are_refused_by_whoever_may_sign_for_their_signer(tmp_path: Path) -> None:
    """And nobody else, whatever they may write."""
    server = await started(tmp_path, **{"certificates.k8s.io__v1beta1": "true"})
    try:
        root = Api(server.transport(username="admin", groups=["system:masters"]))
        cluster, requests = Api(root.transport, ""), "certificates.k8s.io/v1beta1/podcertificaterequests"
        made = request()
        status, obj = await root.create(requests, {**made, "metadata": {"name": "a"}})
        assert (status, obj["spec"]["maxExpirationSeconds"]) == (201, 86_400)
        group = ["certificates.k8s.io"]
        rules = [
            {"verbs": ["update", "patch"], "apiGroups": group, "resources": ["podcertificaterequests/status"]},
            {"verbs": ["sign"], "apiGroups": group, "resources": ["signers"], "resourceNames": ["example.com/signer"]},
        ]
        for user, ruled in (("writer", rules[:1]), ("signer", rules)):
            await cluster.create(
                "rbac.authorization.k8s.io/v1/clusterroles", {"metadata": {"name": user}, "rules": ruled}
            )
            subject = {"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
            ref = {"kind": "ClusterRole", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
            binding = {"metadata": {"name": user}, "subjects": [subject], "roleRef": ref}
            await cluster.create("rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
        denied = {"status": {"conditions": [condition("Denied")]}}
        answers = {
            user: await Api(server.transport(username=user, groups=[])).patch(
                requests, "a", denied, subresource="status"
            )
            for user in ("writer", "signer")
        }
    finally:
        await server.stop()
    told = 'spec.signerName: Forbidden: User "writer" is not permitted to "sign" for signer "example.com/signer"'
    assert (answers["writer"][0], told in answers["writer"][1]["message"]) == (422, True), answers["writer"]
    assert (answers["signer"][0], answers["signer"][1]["status"]) == (200, denied["status"])


async def test_clients_of_a_beta_version_on_its_way_out_are_told_until_when_it_is_served(tmp_path: Path) -> None:
    told = {
        "networking.k8s.io/v1beta1/ipaddresses": (
            "networking.k8s.io/v1beta1 IPAddress is deprecated in v1.34+, unavailable in v1.37+"
        ),
        "storage.k8s.io/v1beta1/volumeattributesclasses": (
            "storage.k8s.io/v1beta1 VolumeAttributesClass is deprecated in v1.34+, unavailable in v1.37+; "
            "use storage.k8s.io/v1 VolumeAttributesClass"
        ),
        "resource.k8s.io/v1beta1/deviceclasses": (
            "resource.k8s.io/v1beta1 DeviceClass is deprecated in v1.35+, unavailable in v1.38+"
        ),
        "resource.k8s.io/v1beta2/deviceclasses": None,
        "networking.k8s.io/v1/ipaddresses": None,
    }
    server = await started(tmp_path, api__beta="true")
    try:
        pair = server.issue_client_certificate("root", ["system:masters"])
        async with Http(server, tmp_path, pair=pair) as http:
            for path, text in told.items():
                for method, body in (("GET", None), ("POST", {"metadata": {}})):
                    answer = await http.call(method, f"/apis/{path}", body)
                    warning = None if text is None else f'299 - "{text}"'
                    assert answer.headers.get("Warning") == warning, (method, path)
            metrics = (await http.call("GET", "/metrics")).body.decode()
    finally:
        await server.stop()
    labels = 'group="networking.k8s.io",removed_release="1.37",resource="ipaddresses",subresource="",version="v1beta1"'
    assert f"apiserver_requested_deprecated_apis{{{labels}}} 1\n" in metrics
