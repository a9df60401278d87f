"""Every verb of everything that is served, asked by everybody: allowed where the rules of RBAC say so, and only there.

What is right is told by an evaluator of its own (`tests/support/rbac_rules.py`), from the objects as they are read.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio

from kubecore._native import UserInfo
from kubecore.api.errors import StatusError
from kubecore.apiserver.authorization.attributes import Attributes
from kubecore.apiserver.config import APIServerConfig
from kubecore.apiserver.server import APIServer
from kubecore.apiserver.storage.lmdb import LMDBConfig
from kubecore.client.client import Client
from kubecore.client.grpc import GrpcClient, connect
from kubecore.client.informer import InformerFactory
from kubecore.clock import RealClock
from kubecore.controllers.base import ControllerContext
from kubecore.controllers.identities.clusterrole_aggregation import ClusterRoleAggregationController
from tests.support import rights_table
from tests.support.pipelined import Got, Pipeline, Wanted
from tests.support.rbac_rules import Asked, Identity, Rbac
from tests.support.rights_table import GROUP, MINE, NODE, NODE_NEEDS, OTHER, Call, Caller, Kind

from .conftest import Api
from .definitions import crd, define, version

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLERS = rights_table.callers()
SEED = 7
OF_GRPC = 150


class World(NamedTuple):
    server: APIServer
    rules: Rbac
    calls: Sequence[Call]
    token: str


async def _made(api: Api, obj: rights_table.Object) -> None:
    plural = {"ClusterRole": "clusterroles", "Role": "roles", "Pod": "pods"}.get(obj["kind"], "")
    plural = plural or f"{obj['kind'].lower()}s"
    target = Api(api.transport, obj["metadata"].get("namespace", ""))
    status, answer = await target.create(f"{obj['apiVersion']}/{plural}", obj)
    assert status == 201, answer


async def _listed(api: Api, plural: str) -> list[rights_table.Object]:
    status, answer = await api.list(f"{GROUP}/v1/{plural}")
    assert status == 200
    return list(answer["items"])


async def _filled(server: APIServer) -> World:
    root = Api(server.transport(username="admin", groups=["system:masters"]), "")
    for name in (MINE, OTHER, "kube-node-lease"):
        status, _ = await root.create("v1/namespaces", {"metadata": {"name": name}})
        assert status in (201, 409)
    mine = Api(root.transport, MINE)
    _, account = await mine.create("v1/serviceaccounts", {"metadata": {"name": "robot"}})
    scaled = {"scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}, "status": {}}
    await define(root, crd("widgets", "Widget", version(subresources=scaled)))
    for obj in [*rights_table.roles(), *rights_table.bindings(), *rights_table.node_objects()]:
        await _made(root, obj)
    rules = Rbac(
        cluster_roles=await _listed(root, "clusterroles"),
        cluster_bindings=await _listed(root, "clusterrolebindings"),
        roles=await _listed(root, "roles"),
        bindings=await _listed(root, "rolebindings"),
        nodes={NODE: NODE_NEEDS},
    )
    kinds = [
        Kind(one.group, one.version, one.plural, one.namespaced, tuple(sorted(one.subresources)))
        for one in server.scheme.resources
    ]
    kinds.append(Kind("example.com", "v1", "widgets", True, ("scale", "status")))
    kinds.append(Kind("metrics.k8s.io", "v1beta1", "pods", True))
    token, *_ = server.tokens.issue(
        namespace=MINE,
        account="robot",
        account_uid=account["metadata"]["uid"],
        audiences=list(server.tokens.audiences),
        seconds=3600,
    )
    return World(server, rules, list(rights_table.calls(kinds)), token)


@asynccontextmanager
async def _aggregating(server: APIServer) -> AsyncIterator[None]:
    client = Client(server.transport(username="aggregator", groups=["system:masters"]), field_manager="aggregator")
    informers = InformerFactory(client, server.clock)
    controller = ClusterRoleAggregationController(ControllerContext(client, server.clock, informers))
    await informers.start()
    task = asyncio.get_running_loop().create_task(controller.run(), name="aggregation")
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await informers.stop()


async def _until_gathered(server: APIServer) -> None:
    """The controller has filled `gathered`, and taken up what the table added to the role `view`."""
    root = Api(server.transport(username="admin", groups=["system:masters"]), "")
    missing = {"gathered", "view", "edit", "admin"}
    async for batch in root.transport.watch(f"/apis/{GROUP}/v1/clusterroles"):
        for event in batch:
            missing -= {name for name in missing if _is_filled(event.object, name)}
        if not missing:
            return


def _is_filled(obj: bytes, name: str) -> bool:
    return f'"name":"{name}"'.encode() in obj and (b"cronjobs" if name == "gathered" else b"widgets") in obj


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    config = APIServerConfig(
        data_dir=tmp_path_factory.mktemp("rights"), secure_port=0, grpc_port=0, storage=LMDBConfig(sync=False)
    )
    server = APIServer(config, RealClock())
    await server.start()
    async with _aggregating(server):
        made = await _filled(server)
        async with asyncio.timeout(60):
            await _until_gathered(server)
        yield made
    await server.stop()


def _refusal(who: Identity, asked: Asked) -> str:
    """What a client is told, up to the reasons of authorization modes."""
    if asked.path:
        return f'User "{who.name}" cannot {asked.verb} path "{asked.path}"'
    where = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
    what = f'resource "{asked.what}" in API group "{asked.group}"'
    return f'User "{who.name}" cannot {asked.verb} {what} {where}'


def _differs(rules: Rbac, who: Identity, call: Call, got: Got) -> str:
    """What is wrong with the answer, if anything is."""
    needs = call.needs
    allowed = all(rules.allows(who, one) for one in needs)
    told = f"{call.method} {call.target}: {got.status}"
    message = got.body.decode().replace('\\"', '"')
    if got.status >= 500 and got.status != 503:
        return f"{told}: {message}"
    if allowed:
        return f"{told}, which is allowed: {message}" if "cannot" in message and got.status == 403 else ""
    if got.status != 403:
        return f"{told}, which is not allowed: {message}"
    wanted = _refusal(who, needs[0])
    # Which of two rights lacks is told for the first only; HEAD has no words.
    if call.method == "HEAD" or rules.allows(who, needs[0]):
        return ""
    return "" if wanted in message else f"{told} without the words {wanted!r}: {message}"


def _shown(caller: Caller) -> tuple[str, list[str]]:
    """Name and groups of the certificate: who acts as somebody else may do so with anybody."""
    who = Identity("root", frozenset({"system:masters"})) if caller.headers else caller.identity
    return who.name, sorted(who.groups - {"system:authenticated"})


async def _connected(world: World, caller: Caller, folder: Path) -> Pipeline:
    server, headers = world.server, dict(caller.headers)
    if caller.account:
        headers["Authorization"] = f"Bearer {world.token}"
    pair = None
    if caller.certificate:
        pair = server.issue_client_certificate(*_shown(caller))
    return await Pipeline.to(server.secure_port, server.authority.certificate, folder, pair=pair, headers=headers)


@pytest.mark.parametrize("name", CALLERS)
async def test_over_rest_everybody_may_do_what_the_rules_say_and_nothing_else(
    world: World, tmp_path: Path, name: str
) -> None:
    caller = CALLERS[name]
    pipeline = await _connected(world, caller, tmp_path)
    answers = await pipeline.ask([Wanted(call.method, call.target, call.body) for call in world.calls])
    pipeline.close()
    found = [_differs(world.rules, caller.identity, call, got) for call, got in zip(world.calls, answers, strict=True)]
    wrong = [one for one in found if one]
    assert not wrong, "\n".join([f"{len(wrong)} of {len(found)}", *wrong[:30]])


async def test_the_table_has_answers_of_both_kinds_for_everybody(world: World) -> None:
    for name, caller in CALLERS.items():
        decisions = [all(world.rules.allows(caller.identity, one) for one in call.needs) for call in world.calls]
        assert any(decisions), name
        assert not all(decisions) or name in ("a master", "a cluster admin"), name


@pytest.mark.parametrize("name", CALLERS)
async def test_reviews_say_what_the_rules_say(world: World, name: str) -> None:
    who = CALLERS[name].identity
    user = UserInfo(who.name, "", sorted(who.groups))
    for call in world.calls:
        asked = call.asked
        attributes = Attributes(
            asked.verb, asked.group, "*", asked.resource, asked.subresource, asked.namespace, asked.name, asked.path
        )
        decision = world.server.authorizer.authorize(user, attributes)
        assert decision.allowed == world.rules.allows(who, asked), asked


# --- gRPC

_OVER_GRPC = {"get", "list", "watch", "create", "update", "patch", "delete"}


async def _by_grpc(client: GrpcClient, call: Call) -> int:
    """The code of the answer to what the call asks for."""
    asked = call.asked
    path = "/".join(part for part in (asked.group, call.version, asked.resource, asked.subresource) if part)
    # The namespace of a Namespace is its name.
    place = "" if asked.resource == "namespaces" else asked.namespace
    try:
        match asked.verb:
            case "get":
                await client.get(path, asked.name, place)
            case "list":
                await client.list(path, place, continue_token="x")
            case "watch":
                async for _ in client.watch(path, place, field_selector="x"):
                    break
            case "create":
                await client.create(path, b"{", place, name=asked.name, dry_run=True)
            case "update":
                await client.update(path, asked.name, b"{", place, dry_run=True)
            case "patch":
                await client.patch(path, asked.name, b"{", place, dry_run=True)
            case "delete":
                await client.delete(path, asked.name, place, dry_run=True)
    except StatusError as error:
        return error.code
    return 200


def _has_a_call(call: Call) -> bool:
    asked = call.asked
    named = asked.verb == "list" and asked.name != ""
    return not asked.path and asked.verb in _OVER_GRPC and not named


def _grpc_client(world: World, caller: Caller) -> GrpcClient:
    ca, target = world.server.authority.certificate, f"127.0.0.1:{world.server.grpc_port}"
    metadata = [(name.lower(), value) for name, value in caller.headers.items()]
    token = world.token if caller.account else ""
    if not caller.certificate:
        return connect(target, ca=ca, token=token, metadata=metadata)
    pair = world.server.issue_client_certificate(*_shown(caller))
    return connect(target, ca=ca, certificate=pair.certificate, key=pair.key, metadata=metadata)


async def _wrong_over_grpc(world: World, caller: Caller, calls: Sequence[Call]) -> list[str]:
    wrong = []
    async with _grpc_client(world, caller) as client:
        for call in calls:
            code = await _by_grpc(client, call)
            if (code != 403) != all(world.rules.allows(caller.identity, one) for one in call.needs):
                wrong.append(f"{call.asked}: {code}")
    return wrong


@pytest.mark.parametrize("name", CALLERS)
async def test_over_grpc_the_same_is_allowed(world: World, name: str) -> None:
    some = random.Random(SEED).sample([call for call in world.calls if _has_a_call(call)], OF_GRPC)
    assert not await _wrong_over_grpc(world, CALLERS[name], some)


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLERS)
async def test_over_grpc_the_same_is_allowed_of_everything(world: World, name: str) -> None:
    every = [call for call in world.calls if _has_a_call(call)]
    assert len(every) > OF_GRPC
    assert not await _wrong_over_grpc(world, CALLERS[name], every)
