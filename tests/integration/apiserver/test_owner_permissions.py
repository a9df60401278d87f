"""OwnerReferencesPermissionEnforcement, where it is enabled: owners are set by who may delete and hold up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from kubecore.apiserver.admission.options import AdmissionOptions
from kubecore.apiserver.config import APIServerConfig
from kubecore.apiserver.server import APIServer
from kubecore.apiserver.storage.lmdb import LMDBConfig
from kubecore.clock import RealClock

from .conftest import Api, config_map
from .definitions import crd, define

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]
MAPS = "v1/configmaps"
RBAC = "rbac.authorization.k8s.io/v1"
UNDELETABLE = "cannot set an ownerRef on a resource you can't delete: "
BLOCKING = "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: "


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def enforcing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[APIServer]:
    directory: Path = tmp_path_factory.mktemp("enforcing")
    config = APIServerConfig(
        data_dir=directory,
        secure_port=0,
        storage=LMDBConfig(sync=False),
        admission=AdmissionOptions(enable=("OwnerReferencesPermissionEnforcement",)),
    )
    made = APIServer(config, RealClock())
    await made.start()
    yield made
    await made.stop()


def admin(server: APIServer) -> Api:
    return Api(server.transport(username="admin", groups=["system:masters"]))


async def someone(server: APIServer, name: str, *more: JSON) -> Api:
    """A user who may create and update ConfigMaps, and what `more` allows."""
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "update", "get"]}, *more]
    root = admin(server)
    role = {"metadata": {"name": name}, "rules": rules}
    assert (await root.create(f"{RBAC}/roles", role))[0] == 201
    subject = {"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    binding = {"metadata": {"name": name}, "subjects": [subject], "roleRef": reference}
    assert (await root.create(f"{RBAC}/rolebindings", binding))[0] == 201
    return Api(server.transport(username=name, groups=["system:authenticated"]))


def owned(name: str, *, block: bool = False, **owner: str) -> JSON:
    made = config_map(name)
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "o", "uid": "u", **owner}
    made["metadata"]["ownerReferences"] = [{**reference, "blockOwnerDeletion": block} if block else reference]
    return made


async def test_who_creates_an_object_may_say_whose_it_is(enforcing: APIServer) -> None:
    user = await someone(enforcing, "creator")
    assert (await user.create(MAPS, owned("a-creator")))[0] == 201


async def test_who_cannot_delete_an_object_cannot_change_its_owners(enforcing: APIServer) -> None:
    user = await someone(enforcing, "updater")
    await user.create(MAPS, config_map("a-updater"))
    status, answer = await user.update(MAPS, owned("a-updater"))
    assert (status, answer["reason"]) == (403, "Forbidden")
    assert UNDELETABLE in answer["message"]
    assert (await user.update(MAPS, config_map("a-updater", k="v")))[0] == 200
    deleter = await someone(enforcing, "deleter", {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["delete"]})
    assert (await deleter.update(MAPS, owned("a-updater")))[0] == 200


async def test_who_cannot_hold_up_the_owner_cannot_block_its_deletion(enforcing: APIServer) -> None:
    user = await someone(enforcing, "blocker")
    status, answer = await user.create(MAPS, owned("a-blocker", block=True))
    assert (status, answer["reason"]) == (403, "Forbidden")
    assert BLOCKING in answer["message"]
    rule = {"apiGroups": ["apps"], "resources": ["deployments/finalizers"], "verbs": ["update"]}
    holder = await someone(enforcing, "holder", rule)
    assert (await holder.create(MAPS, owned("a-blocker", block=True)))[0] == 201


async def test_what_blocked_before_may_go_on(enforcing: APIServer) -> None:
    user = await someone(enforcing, "keeper", {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["delete"]})
    await admin(enforcing).create(MAPS, owned("a-keeper", block=True))
    changed = owned("a-keeper", block=True)
    changed["metadata"]["ownerReferences"][0]["controller"] = True
    assert (await user.update(MAPS, changed))[0] == 200


async def test_a_kind_nobody_serves_cannot_be_blocked(enforcing: APIServer) -> None:
    user = await someone(enforcing, "guesser")
    status, answer = await user.create(MAPS, owned("a-guesser", block=True, apiVersion="x.com/v1", kind="Unicorn"))
    assert status == 403
    assert answer["message"].endswith(
        "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion x.com/v1 "
        'Kind Unicorn: no matches for kind "Unicorn" in version "x.com/v1"'
    )


async def test_custom_kinds_are_known(enforcing: APIServer) -> None:
    await define(admin(enforcing), crd("owners", "Owner", group="own.com"))
    user = await someone(enforcing, "customer")
    body = owned("a-customer", block=True, apiVersion="own.com/v1", kind="Owner")
    assert BLOCKING in (await user.create(MAPS, body))[1]["message"]
    rule = {"apiGroups": ["own.com"], "resources": ["owners/finalizers"], "verbs": ["update"]}
    holder = await someone(enforcing, "custodian", rule)
    assert (await holder.create(MAPS, body))[0] == 201


async def test_by_default_nobody_is_asked(server: APIServer) -> None:
    user = await someone(server, "free")
    assert (await user.create(MAPS, owned("a-free", block=True)))[0] == 201
    assert (await user.update(MAPS, config_map("a-free")))[0] == 200
