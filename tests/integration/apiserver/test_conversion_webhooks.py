"""Versions of a custom resource that a webhook converts, over real TLS."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from aiohttp import web

from tests.integration.apiserver.conftest import Api
from tests.integration.apiserver.definitions import DEFINITIONS, begin, condition, crd, define, seen, until, version
from tests.support.conversion_webhook import ConversionWebhook, serving
from tests.support.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]
_numbers = itertools.count(1)

OLD: JSON = {
    "type": "object",
    "properties": {"spec": {"type": "object", "properties": {"hostPort": {"type": "string"}}}},
}
NEW: JSON = {
    "type": "object",
    "properties": {
        "spec": {"type": "object", "properties": {"host": {"type": "string"}, "port": {"type": "string"}}},
    },
}


class Converted:
    """A definition of its own group with the versions v1beta1 and v1, of which v1 is stored."""

    def __init__(self, api: Api, cluster: Api, group: str) -> None:
        self.api = api
        self.cluster = cluster
        self.group = group

    @property
    def name(self) -> str:
        return f"hosts.{self.group}"

    def resource(self, version: str) -> str:
        return f"{self.group}/{version}/hosts"

    def obj(self, version: str, name: str, **spec: str) -> JSON:
        return {"apiVersion": f"{self.group}/{version}", "kind": "Host", "metadata": {"name": name}, "spec": spec}


async def defined(api: Api, cluster: Api, webhook: ConversionWebhook, **config: Any) -> Converted:
    made = Converted(api, cluster, f"hosts{next(_numbers)}.example.com")
    client = config or {"url": webhook.url, "caBundle": webhook.ca_bundle}
    conversion = {
        "strategy": "Webhook",
        "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": client},
    }
    versions = [version("v1", NEW), version("v1beta1", OLD, storage=False)]
    await define(cluster, crd("hosts", "Host", *versions, group=made.group, conversion=conversion))
    return made


async def test_each_version_shows_the_object_in_its_own_words(api: Api, cluster: Api) -> None:
    async with serving(ConversionWebhook()) as webhook:
        hosts = await defined(api, cluster, webhook)
        old = hosts.obj("v1beta1", "a", hostPort="here:80")
        status, made = await api.create(hosts.resource("v1beta1"), old)
        assert (status, made["spec"]) == (201, {"hostPort": "here:80"}), made
        _, new = await api.get(hosts.resource("v1"), "a")
        assert (new["apiVersion"], new["spec"]) == (f"{hosts.group}/v1", {"host": "here", "port": "80"})
        assert new["metadata"]["uid"] == made["metadata"]["uid"]
        _, listed = await api.list(hosts.resource("v1beta1"))
        assert [item["spec"] for item in listed["items"]] == [{"hostPort": "here:80"}]
        assert {one["apiVersion"] for one in webhook.reviews} == {"apiextensions.k8s.io/v1"}


async def test_writes_in_any_version_reach_the_one_object(api: Api, cluster: Api) -> None:
    async with serving(ConversionWebhook()) as webhook:
        hosts = await defined(api, cluster, webhook)
        await api.create(hosts.resource("v1"), hosts.obj("v1", "a", host="here", port="80"))
        status, patched = await api.patch(hosts.resource("v1beta1"), "a", {"spec": {"hostPort": "there:81"}})
        assert (status, patched["spec"]) == (200, {"hostPort": "there:81"}), patched
        assert (await api.get(hosts.resource("v1"), "a"))[1]["spec"] == {"host": "there", "port": "81"}
        assert (await api.delete(hosts.resource("v1beta1"), "a"))[0] == 200
        assert (await api.get(hosts.resource("v1"), "a"))[0] == 404


async def test_a_watch_sees_its_own_version(api: Api, cluster: Api) -> None:
    async with serving(ConversionWebhook()) as webhook:
        hosts = await defined(api, cluster, webhook)
        found = begin(seen(api, hosts.resource("v1beta1"), "ADDED", "a"))
        await api.create(hosts.resource("v1"), hosts.obj("v1", "a", host="here", port="80"))
        await found
        asked = [review["request"]["desiredAPIVersion"] for review in webhook.reviews]
        assert asked == [f"{hosts.group}/v1beta1"]


async def refusal(api: Api, cluster: Api, webhook: ConversionWebhook, **config: Any) -> str:
    """What a create is refused with."""
    hosts = await defined(api, cluster, webhook, **config)
    status, refused = await api.create(hosts.resource("v1beta1"), hosts.obj("v1beta1", "a", hostPort="h:1"))
    assert (status, refused.get("reason", "")) == (500, "")
    assert (await api.list(hosts.resource("v1")))[1]["items"] == []
    message: str = refused["message"].replace(hosts.group, "GROUP")
    return message


async def test_a_webhook_that_is_not_there(api: Api, cluster: Api) -> None:
    async with serving(ConversionWebhook()) as webhook:
        pass
    webhook.port = free_port()
    assert await refusal(api, cluster, webhook) == (
        f'conversion webhook for GROUP/v1beta1, Kind=Host failed: Post "{webhook.url}?timeout=30s": '
        f"dial tcp 127.0.0.1:{webhook.port}: connect: connection refused"
    )


async def test_a_webhook_that_takes_too_long(api: Api, cluster: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubecore.apiserver.registry.custom.webhook._SECONDS", 0.2)
    webhook, given_up = ConversionWebhook(), asyncio.Event()

    async def handle(_: web.Request) -> web.StreamResponse:
        await given_up.wait()
        return web.Response()

    webhook.handle = handle  # type: ignore[method-assign]
    async with serving(webhook):
        message = await refusal(api, cluster, webhook)
        given_up.set()
    assert message.endswith(f'failed: Post "{webhook.url}?timeout=1s": context deadline exceeded')


async def test_a_webhook_nobody_vouches_for(api: Api, cluster: Api) -> None:
    async with serving(ConversionWebhook()) as webhook, serving(ConversionWebhook()) as other:
        message = await refusal(api, cluster, webhook, url=webhook.url, caBundle=other.ca_bundle)
    assert "failed to verify certificate" in message
    assert webhook.reviews == []


LIES: list[tuple[str, Any, str]] = [
    ("another uid", lambda answer: answer["response"].update(uid="x"), ' failed: expected response.uid="'),
    ("no response", lambda answer: answer.pop("response"), " failed: no response provided"),
    (
        "another kind of answer",
        lambda answer: answer.update(kind="Lie"),
        " failed: expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, "
        "got apiextensions.k8s.io/v1, Kind=Lie",
    ),
    (
        "a refusal",
        lambda answer: answer["response"].update(result={"status": "Failure", "message": "no such host"}),
        " failed: no such host",
    ),
    (
        "nothing converted",
        lambda answer: answer["response"].update(convertedObjects=[]),
        " returned 0 objects, expected 1",
    ),
    (
        "another object",
        lambda answer: answer["response"]["convertedObjects"][0]["metadata"].update(name="b"),
        " returned invalid object: must have the same name: a != b",
    ),
    (
        "another kind of object",
        lambda answer: answer["response"]["convertedObjects"][0].update(kind="Ghost"),
        " returned invalid object at index 0: invalid kind (expected Host, received Ghost)",
    ),
    (
        "labels that are none",
        lambda answer: answer["response"]["convertedObjects"][0]["metadata"].update(labels=["a"]),
        " returned invalid metadata: invalid metadata.labels of type []interface {} in converted object",
    ),
    (
        "an annotation that is a number",
        lambda answer: answer["response"]["convertedObjects"][0]["metadata"].update(annotations={"a": 1}),
        " returned invalid metadata: metadata.annotations[a] must be a string, but is int64 in converted object",
    ),
    (
        "bad names of annotations",
        lambda answer: answer["response"]["convertedObjects"][0]["metadata"].update(annotations={"-": "", "_": ""}),
        ' returned invalid metadata: [metadata.annotation: Invalid value: "-": ',
    ),
    (
        "the old version",
        lambda answer: answer["response"]["convertedObjects"][0].update(apiVersion="example.com/v0"),
        " returned invalid object at index 0: invalid groupVersion (expected GROUP/v1, received example.com/v0)",
    ),
]


@pytest.mark.parametrize(("lie", "message"), [lie[1:] for lie in LIES], ids=[lie[0] for lie in LIES])
async def test_a_webhook_that_lies(api: Api, cluster: Api, lie: Any, message: str) -> None:
    webhook = ConversionWebhook()

    def lying(review: JSON) -> JSON:
        answer = webhook.converted(review)
        lie(answer)
        return answer

    webhook.answer = lying
    async with serving(webhook):
        refused = await refusal(api, cluster, webhook)
    assert refused.startswith(f"conversion webhook for GROUP/v1beta1, Kind=Host{message}")


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ("text", "json: cannot unmarshal string into Go value of type map[string]interface {}"),
        ({"apiVersion": "v1"}, """Object 'Kind' is missing in '{"apiVersion":"v1"}'"""),
    ],
)
async def test_a_webhook_that_makes_no_object(api: Api, cluster: Api, made: Any, message: str) -> None:
    async with serving(ConversionWebhook(lambda obj, wanted: made)) as webhook:
        assert await refusal(api, cluster, webhook) == message


async def test_a_webhook_that_answers_no_json(api: Api, cluster: Api) -> None:
    async with serving(ConversionWebhook(answer=lambda _: web.Response(text="hello"))) as webhook:
        message = await refusal(api, cluster, webhook)
    assert message.endswith(" json parse error: invalid character 'h' looking for beginning of value")


async def test_a_webhook_that_redirects_is_not_followed(api: Api, cluster: Api) -> None:
    async with serving(ConversionWebhook()) as elsewhere:
        webhook = ConversionWebhook(answer=lambda _: web.Response(status=307, headers={"Location": elsewhere.url}))
        async with serving(webhook):
            message = await refusal(api, cluster, webhook)
    assert "redirection (307)" in message
    assert elsewhere.reviews == []


async def test_metadata_is_the_servers_but_for_labels_and_annotations(api: Api, cluster: Api) -> None:
    def convert(obj: JSON, wanted: str) -> JSON:
        metadata = {**obj["metadata"], "labels": {"converted": "yes"}, "ownerReferences": [{"name": "evil"}]}
        return {**obj, "apiVersion": wanted, "metadata": metadata, "spec": {"host": "h", "port": "1"}}

    async with serving(ConversionWebhook(convert)) as webhook:
        hosts = await defined(api, cluster, webhook)
        await api.create(hosts.resource("v1beta1"), hosts.obj("v1beta1", "a", hostPort="h:1"))
        _, stored = await api.get(hosts.resource("v1"), "a")
        assert stored["metadata"]["labels"] == {"converted": "yes"}
        assert "ownerReferences" not in stored["metadata"]


async def test_objects_of_a_former_storage_version_are_converted_when_read(api: Api, cluster: Api) -> None:
    async with serving(ConversionWebhook()) as webhook:
        hosts = await defined(api, cluster, webhook)
        await api.create(hosts.resource("v1"), hosts.obj("v1", "a", host="here", port="80"))
        renewed = begin(seen(api, hosts.resource("v1"), "ERROR"))
        _, definition = await cluster.get(DEFINITIONS, hosts.name)
        for one in definition["spec"]["versions"]:
            one["storage"] = one["name"] == "v1beta1"
        status, changed = await cluster.update(DEFINITIONS, definition)
        assert (status, changed["status"]["storedVersions"]) == (200, ["v1", "v1beta1"])
        await renewed
        assert (await api.get(hosts.resource("v1"), "a"))[1]["spec"] == {"host": "here", "port": "80"}
        assert (await api.get(hosts.resource("v1beta1"), "a"))[1]["spec"] == {"hostPort": "here:80"}
        _, listed = await api.list(hosts.resource("v1beta1"))
        assert [item["apiVersion"] for item in listed["items"]] == [f"{hosts.group}/v1beta1"]


async def test_a_ca_bundle_that_is_none_keeps_a_definition_from_being_established(cluster: Api) -> None:
    config = {"url": "https://example.com/convert", "caBundle": "bm8gUEVN"}
    webhook = {"conversionReviewVersions": ["v1"], "clientConfig": config}
    definition = crd(
        "badcas", "BadCA", group="badca.example.com", conversion={"strategy": "Webhook", "webhook": webhook}
    )
    assert (await cluster.create(DEFINITIONS, definition))[0] == 201
    made = await until(cluster, "badcas.badca.example.com", "NamesAccepted", "True")
    assert condition(made, "Established")["reason"] == "InvalidCABundle"
