"""Rights that are lost without a role or binding that is taken: with a pod, by a webhook, by a file; and those to watch
what others serve. Time is virtual: how soon a watch ends is told in it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from kubecore.apiserver.authorization.options import AuthorizationOptions, WebhookOptions
from kubecore.apiserver.server import APIServer
from kubecore.client.transport import NO_QUERY
from kubecore.clock import VirtualClock
from tests.support.extension_server import GROUP, ROOT
from tests.support.review_webhook import ReviewWebhook, reviewing

from .conftest import Api, config_map, pod
from .extensions import aggregated, until
from .http import Http
from .serving import served

JSON = dict[str, Any]
ROLES = "rbac.authorization.k8s.io/v1/clusterroles"
BINDINGS = "rbac.authorization.k8s.io/v1/clusterrolebindings"
SECRETS, MAPS = "v1/secrets", "v1/configmaps"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
FORMS = pytest.mark.parametrize("accept", ["application/json", TABLE])
# Between two looks at what nobody tells of, and after a change.
TICK, SOON = 60.0, 1.0


class Watch:
    """One over HTTP: what it has told, and whether it has ended."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer
        self._ended = asyncio.ensure_future(answer.content.read())

    async def ended(self) -> None:
        async with asyncio.timeout(20):
            await self._ended

    @property
    def goes_on(self) -> bool:
        return not self._ended.done()


@asynccontextmanager
async def watching(http: Http, path: str, accept: str = "application/json") -> AsyncIterator[Watch]:
    async with asyncio.timeout(120), http, http.stream(path, {"Accept": accept}) as answer:
        assert answer.status == 200, await answer.read()
        watch = Watch(answer)
        try:
            yield watch
        finally:
            watch._ended.cancel()
            answer.close()


def http_of(server: APIServer, folder: Path, name: str, *groups: str) -> Http:
    return Http(server, folder, pair=server.issue_client_certificate(name, groups))


def root(server: APIServer, namespace: str = "") -> Api:
    return Api(server.transport(username="admin", groups=["system:masters"]), namespace)


async def grant(server: APIServer, user: str, group: str, resource: str) -> None:
    rule = {"apiGroups": [group], "resources": [resource], "verbs": ["get", "list", "watch"]}
    subject = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"}
    assert (await root(server).create(ROLES, {"metadata": {"name": "reader"}, "rules": [rule]}))[0] == 201
    binding = {"metadata": {"name": "reader"}, "roleRef": role, "subjects": [subject]}
    assert (await root(server).create(BINDINGS, binding))[0] == 201


async def take(server: APIServer) -> None:
    assert (await root(server).delete(BINDINGS, "reader"))[0] == 200


# --- with a role, by the clock


async def test_a_right_that_is_taken_ends_an_idle_watch_within_a_second(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with served(tmp_path, clock) as server:
        await grant(server, "jane", "", "configmaps")
        async with watching(http_of(server, tmp_path, "jane"), "/api/v1/configmaps?watch=1") as watch:
            await clock.advance(SOON)
            assert watch.goes_on
            await take(server)
            await clock.advance(SOON)
            await watch.ended()


# --- with a pod


@asynccontextmanager
async def node_with_a_secret(folder: Path) -> AsyncIterator[tuple[APIServer, VirtualClock, Api]]:
    """Node `own` has a pod that mounts a secret."""
    clock = VirtualClock()
    async with served(folder, clock) as server:
        api = root(server, "default")
        await api.create("v1/serviceaccounts", {"metadata": {"name": "default"}})
        assert (await root(server).create("v1/nodes", {"metadata": {"name": "own"}}))[0] == 201
        assert (await api.create(SECRETS, {"metadata": {"name": "cert"}}))[0] == 201
        mounts = [{"name": "v", "secret": {"secretName": "cert"}}]
        status, answer = await api.create("v1/pods", pod("web", nodeName="own", volumes=mounts))
        assert status == 201, answer
        yield server, clock, api


async def remove(api: Api) -> None:
    assert (await api.delete("v1/pods", "web", gracePeriodSeconds="0"))[0] == 200


SECRET = "/api/v1/namespaces/default/secrets?watch=1&fieldSelector=metadata.name%3Dcert"


@FORMS
async def test_a_node_watches_a_secret_as_long_as_a_pod_of_its_needs_it(tmp_path: Path, accept: str) -> None:
    async with node_with_a_secret(tmp_path) as (server, clock, api):
        kubelet = http_of(server, tmp_path, "system:node:own", "system:nodes")
        async with watching(kubelet, SECRET, accept) as watch:
            await clock.advance(2 * TICK)
            assert watch.goes_on
            await remove(api)
            await clock.advance(TICK)
            await watch.ended()


async def test_a_node_in_process_likewise(tmp_path: Path) -> None:
    async with node_with_a_secret(tmp_path) as (server, clock, api):
        kubelet = server.transport(username="system:node:own", groups=["system:nodes"])
        watch = kubelet.watch(
            "/api/v1/namespaces/default/secrets", query={"fieldSelector": "metadata.name=cert", "resourceVersion": "0"}
        )
        assert [event.type for event in await anext(watch)] == ["ADDED"]
        ended = asyncio.ensure_future(anext(watch, None))
        await clock.advance(2 * TICK)
        assert not ended.done()
        await remove(api)
        await clock.advance(TICK)
        assert ended.done() and ended.result() is None


# --- by a webhook


class Judge:
    """Its mind may change; `silent`, it answers nothing that makes sense."""

    def __init__(self, *, allows: bool | None) -> None:
        self.allows = allows
        self.silent = False

    def __call__(self, spec: JSON) -> Any:
        return "no review" if self.silent else {"allowed": bool(self.allows), "denied": self.allows is False}


@asynccontextmanager
async def judged(
    folder: Path, judge: Judge, **more: Any
) -> AsyncIterator[tuple[APIServer, VirtualClock, ReviewWebhook]]:
    clock = VirtualClock()
    async with reviewing(folder, judge) as (webhook, file):
        options = AuthorizationOptions(webhook=WebhookOptions(config_file=file, version="v1", **more))
        async with served(folder, clock, authorization_modes=("RBAC", "Webhook"), authorization=options) as server:
            yield server, clock, webhook


WATCH = "/api/v1/namespaces/default/configmaps?watch=1"


@FORMS
async def test_a_right_that_is_taken_ends_a_watch_also_where_a_webhook_has_a_say(tmp_path: Path, accept: str) -> None:
    async with judged(tmp_path, Judge(allows=None)) as (server, clock, _):
        await grant(server, "jane", "", "configmaps")
        async with watching(http_of(server, tmp_path, "jane"), WATCH, accept) as watch:
            await clock.advance(TICK)
            assert watch.goes_on
            await take(server)
            await clock.advance(SOON)
            await watch.ended()


@FORMS
async def test_a_webhook_that_thinks_better_of_it_ends_a_watch_when_what_it_said_is_over(
    tmp_path: Path, accept: str
) -> None:
    judge = Judge(allows=True)
    async with (
        judged(tmp_path, judge, authorized_ttl=300.0) as (server, clock, webhook),
        watching(http_of(server, tmp_path, "jane"), WATCH, accept) as watch,
    ):
        judge.allows = False
        await clock.advance(300.0 - SOON)
        assert (len(webhook.specs), watch.goes_on) == (1, True)
        await clock.advance(TICK + SOON)
        await watch.ended()
        assert len(webhook.specs) > 1


@FORMS
@pytest.mark.parametrize("role", [True, False], ids=["with a role taken", "with nothing else"])
async def test_a_webhook_that_does_not_answer_ends_nothing(tmp_path: Path, accept: str, role: bool) -> None:
    judge = Judge(allows=True)
    async with judged(tmp_path, judge, authorized_ttl=0.0) as (server, clock, webhook):
        await grant(server, "joe" if role else "jane", "", "secrets")
        async with watching(http_of(server, tmp_path, "jane"), WATCH, accept) as watch:
            judge.silent = True
            if role:
                await take(server)
            await clock.advance(2 * TICK)
            assert (len(webhook.specs) > 1, watch.goes_on) == (True, True)
            judge.silent, judge.allows = False, False
            await clock.advance(TICK)
            await watch.ended()


async def test_many_watches_of_one_thing_are_one_question(tmp_path: Path) -> None:
    async with judged(tmp_path, Judge(allows=True), authorized_ttl=0.0) as (server, clock, webhook):
        http = http_of(server, tmp_path, "jane")
        async with watching(http, WATCH) as watch:
            others = [http.stream(WATCH) for _ in range(20)]
            answers = [await one.__aenter__() for one in others]
            before = len(webhook.specs)
            await clock.advance(3 * TICK)
            assert (len(webhook.specs) - before, watch.goes_on) == (3, True)
            for answer in answers:
                answer.close()


# --- by a file


@FORMS
async def test_a_configuration_that_is_changed_ends_what_it_allows_no_more(tmp_path: Path, accept: str) -> None:
    async with reviewing(tmp_path, Judge(allows=True)) as (_, kubeconfig):
        file, clock = tmp_path / "authorization.json", VirtualClock()
        webhook = {
            "authorizedTTL": "5m",
            "unauthorizedTTL": "30s",
            "timeout": "3s",
            "subjectAccessReviewVersion": "v1",
            "failurePolicy": "NoOpinion",
            "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": str(kubeconfig)},
        }
        both: list[JSON] = [{"type": "RBAC", "name": "rbac"}, {"type": "Webhook", "name": "it", "webhook": webhook}]

        def write(authorizers: list[JSON]) -> None:
            said = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration"}
            file.write_text(json.dumps({**said, "authorizers": authorizers}))

        write(both)
        options = AuthorizationOptions(config_file=file)
        async with (
            served(tmp_path, clock, authorization=options) as server,
            watching(http_of(server, tmp_path, "jane"), WATCH, accept) as watch,
        ):
            await clock.advance(TICK)
            assert watch.goes_on
            write(both[:1])
            # The file is looked at once a second.
            await clock.advance(2 * SOON)
            await watch.ended()


# --- to what others serve

FLUNDERS = f"{ROOT}/namespaces/default/flunders"


async def test_a_watch_that_an_extension_tells_ends_with_the_right_to_it(tmp_path: Path) -> None:
    async with served(tmp_path) as server, aggregated(server) as extension:
        await grant(server, "jane", GROUP, "flunders")

        async def is_told_nothing() -> bool:
            return extension.watch is not None and extension.watch.transport is None

        async with watching(http_of(server, tmp_path, "jane"), f"{FLUNDERS}?watch=true") as watch:
            assert extension.requests(FLUNDERS)
            assert watch.goes_on
            await take(server)
            await watch.ended()
            await until(is_told_nothing, True)


async def test_one_in_process_likewise(tmp_path: Path) -> None:
    async with served(tmp_path) as server, aggregated(server):
        await grant(server, "jane", GROUP, "flunders")
        watch = server.transport(username="jane").watch(FLUNDERS, query=NO_QUERY)
        async with asyncio.timeout(20):
            (event,) = await anext(watch)
            assert orjson.loads(event.object)["metadata"]["name"] == "one"
            ended = asyncio.ensure_future(anext(watch, None))
            await root(server, "default").create(MAPS, config_map("meanwhile"))
            assert not ended.done()
            await take(server)
            assert await ended is None
