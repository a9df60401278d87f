"""Random verbs by several clients do what a small model of the API says, over real sockets.

The same runs each time; `make test-laws` looks for new ones.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from kubecore.apiserver.config import APIServerConfig
from kubecore.apiserver.server import APIServer
from kubecore.apiserver.storage.lmdb import LMDBConfig
from kubecore.clock import RealClock
from tests.integration.apiserver.http import Answer, Http
from tests.integration.apiserver.laws.model import Model, Stored, applied, conflicts, deleted, replaced

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600 if "API_LAWS_EXAMPLES" in os.environ else 600)]

JSON = dict[str, Any]
T = TypeVar("T")
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"
JSON_PATCH, APPLY = "application/json-patch+json", "application/apply-patch+yaml"

NAMES = st.sampled_from(["a", "b", "c", "d"])
MANAGERS = st.sampled_from(["one", "two", "three"])
LABELS = st.sampled_from(["p", "q"])
SELECTORS = st.sampled_from(["", "p", "q"])
DATA = st.dictionaries(st.sampled_from("xyz"), st.sampled_from("01"), max_size=3)
POLICIES = st.sampled_from(["", "Background", "Foreground", "Orphan"])
HELD = "example.org/held"


@dataclass
class Pages:
    """A list that is read on later: what is left of it."""

    token: str
    version: str
    selector: str
    left: list[tuple[str, dict[str, str]]]


class Laws(RuleBasedStateMachine):
    run: Callable[[Coroutine[Any, Any, Any]], Any]
    http: Http
    numbers = itertools.count(1)

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.pages: list[Pages] = []
        # A revision to watch from, and how much of the history it holds.
        self.points: list[tuple[str, int]] = []
        namespace = f"laws-{next(self.numbers)}"
        made = self.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        assert made.status == 201
        self.path = f"/api/v1/namespaces/{namespace}/configmaps"
        self.points.append((made.json["metadata"]["resourceVersion"], 0))

    # --- requests

    def call(self, method: str, path: str, body: object = None, kind: str = "application/json") -> Answer:
        answer: Answer = self.run(self.http.call(method, path, body, {"Content-Type": kind}))
        return answer

    def write(self, method: str, name: str, body: object, manager: str, kind: str = "", **query: str) -> Answer:
        asked = "&".join(f"{key}={value}" for key, value in {"fieldManager": manager, **query}.items())
        path = f"{self.path}/{name}" if method != "POST" else self.path
        return self.call(method, f"{path}?{asked}", body, kind or "application/json")

    def body(self, name: str, data: JSON, label: str, **metadata: Any) -> JSON:
        return {"metadata": {"name": name, "labels": {"l": label}, **metadata}, "data": data}

    def settle(self, name: str, after: Stored, answer: Answer) -> None:
        """What a write has made of an object that is there, which it has changed or not."""
        assert answer.status in (200, 201), answer.body
        before, version = self.model.objects.get(name), answer.json["metadata"]["resourceVersion"]
        if before is not None and replace(after, owners=before.owners) == before and after.owners == before.owners:
            assert version == before.version, "what changes nothing keeps the version"
            return
        assert before is None or int(version) > int(before.version)
        self.model.put(name, replace(after, version=version, uid=answer.json["metadata"]["uid"]))

    # --- writes

    @rule(name=NAMES, data=DATA, label=LABELS, manager=MANAGERS, held=st.booleans(), dry=st.booleans())
    def create(self, name: str, data: dict[str, str], label: str, manager: str, held: bool, dry: bool) -> None:
        finalizers = [HELD] if held else []
        more = {"dryRun": "All"} if dry else {}
        answer = self.write("POST", name, self.body(name, data, label, finalizers=finalizers), manager, **more)
        if name in self.model.objects:
            assert (answer.status, answer.json["reason"]) == (409, "AlreadyExists")
            return
        assert answer.status == 201
        if not dry:
            owners = {key: {(manager, "Update")} for key in data}
            self.settle(name, Stored("", "", data, label, finalizers, owners=owners), answer)

    @rule(name=NAMES, data=DATA, label=LABELS, manager=MANAGERS, version=st.sampled_from(["", "current", "stale"]))
    def update(self, name: str, data: dict[str, str], label: str, manager: str, version: str) -> None:
        known = self.model.objects.get(name)
        body = self.body(name, data, label)
        if known is not None:
            body["metadata"] |= {"finalizers": known.finalizers, **annotations(known.notes)}
            versions = {"current": known.version, "stale": str(int(known.version) - 1)}
            body["metadata"]["resourceVersion"] = versions.get(version, "")
        answer = self.write("PUT", name, body, manager)
        if known is None:
            assert (answer.status, answer.json["reason"]) == (404, "NotFound")
        elif version == "stale":
            assert (answer.status, answer.json["reason"]) == (409, "Conflict")
        else:
            self.settle(name, replaced(known, data, label, manager), answer)

    @rule(
        name=NAMES,
        key=st.sampled_from("xyz"),
        value=st.sampled_from(["0", "1", None]),
        manager=MANAGERS,
        kind=st.sampled_from([MERGE, STRATEGIC, JSON_PATCH]),
        dry=st.booleans(),
    )
    def patch(self, name: str, key: str, value: str | None, manager: str, kind: str, dry: bool) -> None:
        known = self.model.objects.get(name)
        patch: object = {"data": {key: value}}
        if kind == JSON_PATCH:
            if known is None or not known.data or (value is None and key not in known.data):
                return
            operation = {"op": "remove"} if value is None else {"op": "add", "value": value}
            patch = [{**operation, "path": f"/data/{key}"}]
        answer = self.write("PATCH", name, patch, manager, kind, **({"dryRun": "All"} if dry else {}))
        if known is None:
            assert (answer.status, answer.json["reason"]) == (404, "NotFound")
            return
        data = {one: text for one, text in {**known.data, key: value}.items() if text is not None}
        assert answer.status == 200, answer.body
        assert answer.json.get("data", {}) == data
        if not dry:
            self.settle(name, replaced(known, data, known.label, manager), answer)

    @rule(name=NAMES, config=DATA, manager=MANAGERS, force=st.booleans())
    def apply(self, name: str, config: dict[str, str], manager: str, force: bool) -> None:
        known = self.model.objects.get(name)
        body: JSON = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **annotations({manager})}}
        if config:
            # An empty map would be owned itself.
            body["data"] = config
        answer = self.write("PATCH", name, body, manager, APPLY, force=str(force).lower())
        if known is None:
            assert answer.status == 201
            self.settle(name, applied(Stored("", "", {}, ""), config, manager), answer)
            return
        taken = conflicts(known, config, manager)
        if taken and not force:
            assert (answer.status, answer.json["reason"]) == (409, "Conflict")
            causes = answer.json["details"]["causes"]
            assert {cause["field"] for cause in causes} == {f".data.{key}" for key in taken}
            assert {cause["reason"] for cause in causes} == {"FieldManagerConflict"}
            return
        self.settle(name, applied(known, config, manager), answer)

    @rule(name=NAMES, held=st.booleans())
    def hold_or_let_go(self, name: str, held: bool) -> None:
        known = self.model.objects.get(name)
        if known is None:
            return
        wanted = [HELD] if held else []
        answer = self.write("PATCH", name, {"metadata": {"finalizers": wanted or None}}, "holder", MERGE)
        if known.deleting and set(wanted) - set(known.finalizers):
            assert (answer.status, answer.json["reason"]) == (422, "Invalid")
        elif known.deleting and not wanted:
            assert answer.status == 200
            self.model.put(name, None)
        else:
            self.settle(name, replace(known, finalizers=wanted), answer)

    @rule(name=NAMES, data=DATA, managers=st.permutations(["one", "two", "three"]))
    def race(self, name: str, data: dict[str, str], managers: list[str]) -> None:
        """Of updates of one version that all change something, one wins."""
        known = self.model.objects.get(name)
        if known is None:
            return

        # Never what is there already.
        mark = next(self.numbers)

        def update(manager: str) -> Coroutine[Any, Any, Answer]:
            body = self.body(name, {**data, "winner": f"{manager}-{mark}"}, known.label)
            body["metadata"] |= {"finalizers": known.finalizers, **annotations(known.notes)}
            body["metadata"]["resourceVersion"] = known.version
            return self.http.call("PUT", f"{self.path}/{name}?fieldManager={manager}", body)

        async def together() -> list[Answer]:
            return await asyncio.gather(*map(update, managers))

        answers: list[Answer] = self.run(together())
        won = [(manager, answer) for manager, answer in zip(managers, answers, strict=True) if answer.status == 200]
        assert sorted(answer.status for answer in answers) == [200, 409, 409]
        ((manager, answer),) = won
        self.settle(name, replaced(known, {**data, "winner": f"{manager}-{mark}"}, known.label, manager), answer)

    # --- deletions

    @rule(name=NAMES, policy=POLICIES, only=st.sampled_from(["", "uid", "other uid", "stale"]), dry=st.booleans())
    def delete(self, name: str, policy: str, only: str, dry: bool) -> None:
        known = self.model.objects.get(name)
        options: JSON = {"propagationPolicy": policy} if policy else {}
        if known is not None and only:
            stale = {"resourceVersion": str(int(known.version) - 1)}
            conditions = {"uid": {"uid": known.uid}, "other uid": {"uid": "another"}, "stale": stale}
            options["preconditions"] = conditions[only]
        if dry:
            options["dryRun"] = ["All"]
        answer = self.call("DELETE", f"{self.path}/{name}", options)
        if known is None:
            assert (answer.status, answer.json["reason"]) == (404, "NotFound")
        elif only in ("other uid", "stale"):
            assert (answer.status, answer.json["reason"]) == (409, "Conflict")
        elif not dry:
            self.gone_or_marked(name, policy, answer)

    def gone_or_marked(self, name: str, policy: str, answer: Answer) -> None:
        assert answer.status == 200
        after = deleted(self.model.objects[name], policy)
        if after is None:
            assert (answer.json["kind"], answer.json["status"]) == ("Status", "Success")
            self.model.put(name, None)
        else:
            assert answer.json["metadata"]["finalizers"] == after.finalizers
            self.settle(name, after, answer)

    @rule(selector=SELECTORS)
    def delete_collection(self, selector: str) -> None:
        answer = self.call("DELETE", f"{self.path}?{self.select(selector)}")
        assert answer.status == 200
        chosen = self.model.selected(selector)
        assert [item["metadata"]["name"] for item in answer.json["items"]] == chosen
        for name in chosen:
            after = deleted(self.model.objects[name], "")
            if after is None:
                self.model.put(name, None)
            else:
                self.settle(name, after, self.call("GET", f"{self.path}/{name}"))

    # --- reads

    def select(self, selector: str) -> str:
        return f"labelSelector=l%3D{selector}" if selector else ""

    @rule(selector=SELECTORS, limit=st.integers(1, 3))
    def begin_list(self, selector: str, limit: int) -> None:
        names = self.model.selected(selector)
        everything = [(name, self.model.objects[name].data) for name in names]
        first = self.call("GET", f"{self.path}?limit={limit}&{self.select(selector)}")
        self.read_page(Pages("", first.json["metadata"]["resourceVersion"], selector, everything), first)

    @rule(index=st.integers(0, 9), limit=st.integers(0, 3))
    def continue_list(self, index: int, limit: int) -> None:
        """Later pages are of the moment of the first one, whatever has happened since."""
        if self.pages:
            pages = self.pages.pop(index % len(self.pages))
            query = f"limit={limit}&continue={pages.token}&{self.select(pages.selector)}"
            self.read_page(pages, self.call("GET", f"{self.path}?{query}"))

    def read_page(self, pages: Pages, answer: Answer) -> None:
        assert answer.status == 200, answer.body
        assert answer.json["metadata"]["resourceVersion"] == pages.version
        items = [(item["metadata"]["name"], item.get("data", {})) for item in answer.json["items"]]
        assert items == pages.left[: len(items)]
        token, left = answer.json["metadata"].get("continue", ""), pages.left[len(items) :]
        assert bool(token) == bool(left)
        if token:
            self.pages.append(Pages(token, pages.version, pages.selector, left))

    @rule(index=st.integers(0, 50), selector=SELECTORS)
    def watch(self, index: int, selector: str) -> None:
        """All that has happened to each object since, in order, and nothing twice."""
        version, known = self.points[index % len(self.points)]
        expected: dict[str, list[tuple[str, JSON]]] = {}
        for event in self.model.history[known:]:
            if (seen := event.seen(selector)) is not None:
                expected.setdefault(event.name, []).append((seen[0], seen[1].data))
        query = f"watch=true&resourceVersion={version}&{self.select(selector)}"
        events: list[JSON] = self.run(self.events(f"{self.path}?{query}", sum(map(len, expected.values()))))
        found: dict[str, list[tuple[str, JSON]]] = {}
        for one in events:
            obj = one["object"]
            found.setdefault(obj["metadata"]["name"], []).append((one["type"], obj.get("data", {})))
        assert found == expected
        revisions = [int(one["object"]["metadata"]["resourceVersion"]) for one in events]
        assert revisions == sorted(set(revisions))

    async def events(self, path: str, count: int) -> list[JSON]:
        async with self.http.stream(path) as stream, asyncio.timeout(60):
            assert stream.status == 200
            return [orjson.loads(await stream.content.readline()) for _ in range(count)]

    @invariant()
    def everything_is_as_the_model_has_it(self) -> None:
        listed = self.call("GET", self.path).json
        self.points.append((listed["metadata"]["resourceVersion"], len(self.model.history)))
        assert [item["metadata"]["name"] for item in listed["items"]] == self.model.selected("")
        for item in listed["items"]:
            metadata = item["metadata"]
            known = self.model.objects[metadata["name"]]
            assert metadata["resourceVersion"] == known.version
            assert item.get("data", {}) == known.data
            assert (metadata.get("labels") or {}).get("l", "") == known.label
            assert metadata.get("finalizers", []) == known.finalizers
            assert ("deletionTimestamp" in metadata) == known.deleting
            assert owners_of(metadata) == {(key, *owner) for key, owners in known.owners.items() for owner in owners}


def annotations(notes: set[str]) -> JSON:
    return {"annotations": {f"applied-by-{manager}": "yes" for manager in sorted(notes)}}


def owners_of(metadata: JSON) -> set[tuple[str, str, str]]:
    """(key of the data, manager, operation) each."""
    return {
        (name.removeprefix("f:"), entry["manager"], entry["operation"])
        for entry in metadata.get("managedFields", [])
        for name in entry["fieldsV1"].get("f:data", {})
        if name != "."
    }


def test_random_verbs_by_several_clients_do_what_the_model_says(tmp_path: Path) -> None:
    examples = int(os.environ.get("API_LAWS_EXAMPLES", "100"))
    server = APIServer(
        APIServerConfig(data_dir=tmp_path / "data", secure_port=0, storage=LMDBConfig(sync=False)), RealClock()
    )

    async def begin() -> Http:
        await server.start()
        pair = server.issue_client_certificate("root", ["system:masters"])
        return await Http(server, tmp_path, pair=pair).__aenter__()

    with asyncio.Runner() as runner:
        http = runner.run(begin())
        laws = type("ApiLaws", (Laws,), {"run": staticmethod(runner.run), "http": http})
        try:
            run_state_machine_as_test(laws, settings=settings(max_examples=examples, stateful_step_count=30))
        finally:
            runner.run(http.__aexit__(None, None, None))
            runner.run(server.stop())
