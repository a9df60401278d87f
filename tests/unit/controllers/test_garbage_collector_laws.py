"""What holds of garbage collection whatever users do: what has a living owner stays, what has only dead ones goes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from kubecore.api import errors
from kubecore.api.errors import StatusError
from kubecore.client.client import Client, Object
from kubecore.clock import VirtualClock
from kubecore.controllers.base import ControllerContext
from kubecore.controllers.garbage_collector import GarbageCollector
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import template

MAPS, SETS, ROLES = "configmaps", "replicasets.apps", "clusterroles.rbac.authorization.k8s.io"
KINDS = {
    MAPS: ("v1", "ConfigMap"),
    SETS: ("apps/v1", "ReplicaSet"),
    ROLES: ("rbac.authorization.k8s.io/v1", "ClusterRole"),
}
GC_FINALIZERS = {"foregroundDeletion", "orphan"}
# Long enough for every retry that is due to come to its end.
QUIET_SECONDS = 600.0

# Which of the objects there are or were, whether it blocks, and whether the name is wrong.
REFERENCE = st.tuples(st.integers(0, 30), st.booleans(), st.integers(0, 7).map(lambda number: number == 0))


class Door:
    """The API as the collector has it; each of its deletions that is carried out is judged."""

    def __init__(self, api: FakeAPI) -> None:
        self._api = api
        # Uids of owners that were seen to wait for their dependents, with the moment. Nothing holds an owner still
        # between the look at it and the deletion of a dependent, in Kubernetes neither: what was right then counts.
        self._waiting: dict[str, datetime] = {}
        # Controllers survive any exception, so what is wrong is kept for the test to see.
        self.wrong: list[str] = []

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] = {},
        body: bytes | None = None,
        content_type: str = "",
    ) -> tuple[int, bytes]:
        wrong: list[str] = []
        if method == "DELETE":
            code, found = await self._api.request("GET", path, query={}, body=None, content_type="application/json")
            wrong = self._judged(orjson.loads(found)) if code == 200 else []
        code, answer = await self._api.request(method, path, query=query, body=body, content_type=content_type)
        if code < 400:
            self.wrong += wrong
        if method == "GET" and code == 200 and is_waiting(seen := orjson.loads(answer)):
            self._waiting[seen["metadata"]["uid"]] = self._api.clock.now()
        return code, answer

    def _judged(self, obj: Object) -> list[str]:
        """What is wrong with deleting this object."""
        owners = obj["metadata"].get("ownerReferences") or []
        name = f"{obj['kind']}/{obj['metadata']['name']}"
        if not owners:
            return [f"{name} belongs to nobody and is deleted"]
        if any(self._is_solid(owner_of(self._api, obj, ref)) for ref in owners):
            return [f"{name} has a living owner and is deleted"]
        return []

    def _is_solid(self, owner: Object | None) -> bool:
        """Living, and not itself waiting for its dependents to go."""
        if owner is None or is_waiting(owner):
            return False
        return self._waiting.get(owner["metadata"]["uid"]) != self._api.clock.now()

    def watch(self, path: str, *, query: Mapping[str, str] = {}) -> Any:
        return self._api.watch(path, query=query)

    async def close(self) -> None:
        """Nothing of its own is open."""


def owner_of(api: FakeAPI, dependent: Object, ref: Object) -> Object | None:
    """The living object a reference names, as Kubernetes reads it."""
    (resource,) = [key for key, names in KINDS.items() if names == (ref["apiVersion"], ref["kind"])]
    space = dependent["metadata"].get("namespace", "")
    if resource != ROLES and not space:
        return None
    found = api.get(resource, ref["name"], space)
    return found if found is not None and found["metadata"]["uid"] == ref["uid"] else None


def is_waiting(owner: Object) -> bool:
    """In foreground deletion."""
    metadata = owner.get("metadata") or {}
    return bool(metadata.get("deletionTimestamp")) and "foregroundDeletion" in (metadata.get("finalizers") or ())


class GarbageLaws(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = VirtualClock()
        self.api = FakeAPI(self.clock)
        self.user = self.api.client("user")
        self.named: list[Object] = []
        self.number = 0
        self.door = Door(self.api)
        self.context = ControllerContext(Client(self.door, field_manager="gc"), self.clock, self.api.informers())
        self.collector = GarbageCollector(self.context)
        self.task = self.loop.create_task(self.run_collector())
        self.wait(1.0)

    async def run_collector(self) -> None:
        await self.context.informers.start()
        await self.collector.run()

    def wait(self, seconds: float) -> None:
        self.loop.run_until_complete(self.clock.advance(seconds))
        assert self.door.wrong == []

    def living(self) -> list[Object]:
        return [obj for resource in KINDS for obj in self.api.all(resource)]

    def pick(self, index: int) -> tuple[str, Object] | None:
        found = [(resource, obj) for resource in KINDS for obj in self.api.all(resource)]
        return found[index % len(found)] if found else None

    def references(self, picks: list[tuple[int, bool, bool]]) -> list[Object]:
        """References to objects there are or were, some by a wrong name."""
        made: dict[str, Object] = {}
        for index, block, wrong in picks:
            if self.named:
                owner = self.named[index % len(self.named)]
                metadata = owner["metadata"]
                name = "someone-else" if wrong else metadata["name"]
                made[metadata["uid"]] = {
                    "apiVersion": owner["apiVersion"],
                    "kind": owner["kind"],
                    "name": name,
                    "uid": metadata["uid"],
                    "blockOwnerDeletion": block,
                }
        return list(made.values())

    @initialize(
        owners=st.lists(
            st.tuples(st.sampled_from([MAPS, SETS, MAPS]), st.lists(REFERENCE, min_size=1, max_size=3)),
            min_size=4,
            max_size=8,
        )
    )
    def begin(self, owners: list[tuple[str, list[tuple[int, bool, bool]]]]) -> None:
        """Random runs of rules alone seldom make a graph that is worth collecting."""
        for resource, picks in owners:
            self.create(resource=resource, space="default", picks=picks, held=1)

    @rule(
        resource=st.sampled_from(list(KINDS)),
        space=st.sampled_from(["default", "kube-system"]),
        picks=st.lists(REFERENCE, max_size=3),
        held=st.integers(0, 5),
    )
    def create(self, resource: str, space: str, picks: list[tuple[int, bool, bool]], held: int) -> None:
        self.number += 1
        metadata: Object = {"name": f"o{self.number}", "ownerReferences": self.references(picks)}
        if held == 0:
            metadata["finalizers"] = ["example.org/hold"]
        body: Object = {"metadata": metadata}
        if resource == SETS:
            body["spec"] = {"replicas": 0, "template": template()}
        self.named.append(self.api.add(resource, body, "" if resource == ROLES else space))

    @rule(
        index=st.integers(0, 30),
        picks=st.lists(st.tuples(st.integers(0, 30), st.booleans(), st.just(False)), max_size=3),
    )
    def give_to_others(self, index: int, picks: list[tuple[int, bool, bool]]) -> None:
        if (found := self.pick(index)) is not None:
            resource, obj = found
            metadata = obj["metadata"]
            owners = [ref for ref in self.references(picks) if ref["uid"] != metadata["uid"]]
            space = metadata.get("namespace", "")
            self.api.change(resource, metadata["name"], space, metadata={"ownerReferences": owners})

    @rule(index=st.integers(0, 30), policy=st.sampled_from(["Background", "Foreground", "Orphan"]))
    def delete(self, index: int, policy: str) -> None:
        if (found := self.pick(index)) is not None:
            resource, obj = found
            space, name = obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
            try:
                self.loop.run_until_complete(self.user.delete(resource, name, space, propagation_policy=policy))
            except StatusError as error:
                # the collector was at work, too
                assert errors.is_not_found(error)

    @rule(index=st.integers(0, 30))
    def let_go(self, index: int) -> None:
        if (found := self.pick(index)) is not None:
            resource, obj = found
            metadata = obj["metadata"]
            kept = [one for one in metadata.get("finalizers") or [] if one in GC_FINALIZERS]
            self.api.change(resource, metadata["name"], metadata.get("namespace", ""), metadata={"finalizers": kept})

    @rule()
    def watches_end(self) -> None:
        self.api.end_watches()

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.1, 1.0]))
    def time_passes(self, seconds: float) -> None:
        self.wait(seconds)

    @rule()
    def everything_is_worked_off(self) -> None:
        self.wait(QUIET_SECONDS)
        for obj in self.living():
            self.check_at_rest(obj)

    def check_at_rest(self, obj: Object) -> None:
        metadata = obj["metadata"]
        owners = metadata.get("ownerReferences") or []
        held = set(metadata.get("finalizers") or ()) - GC_FINALIZERS
        # nobody can judge a namespaced owner of what has no namespace
        unclear = not metadata.get("namespace") and any(ref["kind"] != "ClusterRole" for ref in owners)
        if owners and not unclear and not metadata.get("deletionTimestamp"):
            living = [owner_of(self.api, obj, ref) for ref in owners]
            assert any(owner is not None for owner in living), f"{metadata['name']} has no owner left and stays"
        if metadata.get("deletionTimestamp") and not held:
            blocking = [one for one in self.living() if self.blocks(one, obj)]
            assert blocking, f"{metadata['name']} is being deleted, nothing holds it, and it stays"

    def blocks(self, dependent: Object, owner: Object) -> bool:
        refs = dependent["metadata"].get("ownerReferences") or []
        return any(ref["uid"] == owner["metadata"]["uid"] and ref.get("blockOwnerDeletion") for ref in refs)

    def teardown(self) -> None:
        self.task.cancel()
        self.loop.run_until_complete(asyncio.gather(self.task, return_exceptions=True))
        self.loop.run_until_complete(self.context.informers.stop())
        self.loop.close()


TestGarbageLaws = GarbageLaws.TestCase
TestGarbageLaws.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
