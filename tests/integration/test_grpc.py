"""gRPC over real sockets and TLS: the protocol, identities, failures, deadlines; the API behind it is in memory."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import grpc.aio
import orjson
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from kubecore import _native
from kubecore.api import errors
from kubecore.api.errors import StatusError
from kubecore.api.v1pb import objects_pb2 as pb
from kubecore.apiserver.grpc.listener import GrpcListener
from kubecore.client.grpc import GrpcClient, connect
from kubecore.client.grpc.client import resource
from kubecore.clock import VirtualClock
from tests.support.fake_api import FakeAPI


@dataclass
class Setup:
    """A server, its API, and what is needed to call it."""

    api: FakeAPI
    ca: trustme.CA
    port: int = 0
    transport: Any = None
    said: list[dict[str, Any]] = field(default_factory=list)

    @property
    def target(self) -> str:
        return f"localhost:{self.port}"

    @property
    def ca_pem(self) -> bytes:
        return self.ca.cert_pem.bytes()

    def client(self, token: str = "secret") -> GrpcClient:
        return connect(self.target, ca=self.ca_pem, token=token)

    def transport_for(self, call: _native.TunnelCall, metadata: Any, telling: Any) -> Any:
        self.said.append(dict(metadata))
        return self.transport or self.api


@asynccontextmanager
async def serving(folder: Path, **limits: Any) -> AsyncIterator[Setup]:
    """Within the limits of a front that has these."""
    setup = Setup(FakeAPI(VirtualClock()), trustme.CA())
    issued = setup.ca.issue_cert("localhost")
    listener = GrpcListener(
        front=_native.Front(_native.WatchCache(), **limits),
        certificate=_native.ServingCertificate(
            b"".join(part.bytes() for part in issued.cert_chain_pems), issued.private_key_pem.bytes()
        ),
        transport_for=setup.transport_for,
        run_dir=folder / "grpc",
    )
    setup.port = listener.listen("127.0.0.1", 0)
    try:
        yield setup
    finally:
        await listener.close(0)


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    async with serving(tmp_path) as setup:
        yield setup


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"a": "b"}}, "data": data}


MAPS = "v1/configmaps"


async def test_an_object_is_created_read_changed_and_deleted(setup: Setup) -> None:
    async with setup.client() as objects:
        created = await objects.create(MAPS, config_map("x", key="1"), "default")
        assert (created.metadata.kind, created.metadata.namespace, created.metadata.name) == (
            "ConfigMap",
            "default",
            "x",
        )
        assert dict(created.metadata.labels) == {"a": "b"}
        assert created.metadata.uid
        assert created.metadata.creation_timestamp.seconds == int(VirtualClock().now().timestamp())
        assert created.decode()["data"] == {"key": "1"}

        patched = await objects.patch(MAPS, "x", {"data": {"key": "2"}}, "default")
        assert patched.metadata.resource_version != created.metadata.resource_version
        read = await objects.get(MAPS, "x", "default")
        assert read.json == patched.json
        updated = await objects.update(MAPS, "x", read.decode() | {"data": {"key": "3"}}, "default")
        assert updated.decode()["data"] == {"key": "3"}

        await objects.delete(MAPS, "x", "default", grace_period_seconds=0)
        with pytest.raises(StatusError) as caught:
            await objects.get(MAPS, "x", "default")
        assert (caught.value.code, caught.value.reason) == (404, "NotFound")


async def test_what_a_client_says_of_itself_is_heard(setup: Setup) -> None:
    acting = (("impersonate-user", "jane"),)
    async with connect(setup.target, ca=setup.ca_pem, token="secret", metadata=acting) as client:
        await client.list(MAPS)
    (said,) = setup.said
    assert (said["authorization"], said["impersonate-user"]) == ("Bearer secret", "jane")
    assert said["user-agent"].startswith("grpc-python")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.bad_request("no"), grpc.StatusCode.INVALID_ARGUMENT),
        (errors.forbidden("", "configmaps", "x", "no"), grpc.StatusCode.PERMISSION_DENIED),
        (errors.not_found("", "configmaps", "x"), grpc.StatusCode.NOT_FOUND),
        (errors.already_exists("", "configmaps", "x"), grpc.StatusCode.ALREADY_EXISTS),
        (errors.conflict("", "configmaps", "x"), grpc.StatusCode.ABORTED),
        (errors.expired("too old"), grpc.StatusCode.OUT_OF_RANGE),
        (errors.invalid("ConfigMap", "x", [errors.FieldError.required("data")]), grpc.StatusCode.INVALID_ARGUMENT),
        (errors.too_many_requests("slowly"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.internal_error("oh"), grpc.StatusCode.INTERNAL),
        (errors.service_unavailable("later"), grpc.StatusCode.UNAVAILABLE),
    ],
)
async def test_a_failure_carries_its_code_and_the_whole_status(
    setup: Setup, error: StatusError, code: grpc.StatusCode
) -> None:
    setup.api.react("create configmaps", error)
    async with setup.client() as objects:
        with pytest.raises(StatusError) as caught:
            await objects.create(MAPS, config_map("x"), "default")
    assert caught.value.to_status() == error.to_status()
    assert isinstance(caught.value.__cause__, grpc.aio.AioRpcError)
    assert caught.value.__cause__.code() == code


@pytest.mark.parametrize("value", ["x" * 2_700, "x" * 20_000, "é%\n" * 50_000])
async def test_a_failure_too_long_for_headers_is_cut(setup: Setup, value: str) -> None:
    """Many clients take 8 KiB of headers: they would tell of these, not of the failure."""
    error = errors.invalid("ConfigMap", "x", [errors.FieldError.required("data." + value)])
    setup.api.react("create configmaps", error)
    async with setup.client() as objects:
        with pytest.raises(StatusError) as caught:
            await objects.create(MAPS, config_map("x"), "default")
    told, whole = caught.value.to_status(), error.to_status()
    assert (told["code"], told["reason"]) == (422, "Invalid")
    assert told["message"].endswith("...") and whole["message"].startswith(told["message"].removesuffix("..."))
    del whole["details"]["causes"]
    assert told["details"] == whole["details"]
    cause = caught.value.__cause__
    assert isinstance(cause, grpc.aio.AioRpcError)
    assert cause.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert cause.details() == told["message"]
    details = sum(len(part) for _, part in cause.trailing_metadata() or ())
    assert len(quote(told["message"])) + details * 4 // 3 < 8_000


class Text:
    """A transport that answers lines, as a log does."""

    async def request(self, *_: Any, **__: Any) -> tuple[int, bytes]:
        return 200, b"a line\n"


async def test_what_is_no_object_is_left_to_the_rest_api(setup: Setup) -> None:
    setup.transport = Text()
    async with setup.client() as objects:
        with pytest.raises(StatusError, match="no object in JSON") as caught:
            await objects.get("v1/pods/log", "x", "default")
    assert caught.value.code == 400


class Pages:
    """A transport whose lists come in pages of two, whatever is asked for."""

    names = ("a", "b", "c", "d", "e")

    def __init__(self) -> None:
        self.limits: list[str] = []

    async def request(self, method: str, path: str, *, query: Mapping[str, str], **_: Any) -> tuple[int, bytes]:
        self.limits.append(query["limit"])
        start = int(query.get("continue", "0"))
        end = start + min(2, int(query["limit"]))
        more = {"continue": str(end)} if end < len(self.names) else {}
        items = [{"metadata": {"name": name, "resourceVersion": "3"}} for name in self.names[start:end]]
        listed = {"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": "7", **more}}
        return 200, orjson.dumps({**listed, "items": items})


async def test_a_list_is_streamed_in_pages_of_one_version(setup: Setup) -> None:
    setup.transport = Pages()
    async with setup.client() as objects:
        listing = await objects.list(MAPS, page_size=2)
    assert [item.metadata.name for item in listing.items] == list(Pages.names)
    assert {item.metadata.kind for item in listing.items} == {"ConfigMap"}
    assert (listing.resource_version, listing.continue_token) == ("7", "")
    assert setup.transport.limits == ["2", "2", "2"]


async def test_a_limited_list_says_where_to_go_on(setup: Setup) -> None:
    setup.transport = Pages()
    async with setup.client() as objects:
        listing = await objects.list(MAPS, page_size=2, limit=3)
        assert [item.metadata.name for item in listing.items] == ["a", "b", "c"]
        rest = await objects.list(MAPS, continue_token=listing.continue_token)
    assert [item.metadata.name for item in rest.items] == ["d", "e"]


async def test_a_watch_brings_what_there_is_and_then_what_changes(setup: Setup) -> None:
    setup.api.add("configmaps", config_map("old"))
    async with setup.client() as objects:
        events = objects.watch(MAPS, "default")
        first = await anext(events)
        assert [(event.type, event.item.metadata.name) for event in first] == [("ADDED", "old")]
        setup.api.add("configmaps", config_map("new"))
        setup.api.remove("configmaps", "old")
        seen: list[tuple[str, str]] = []
        while len(seen) < 2:
            seen += [(event.type, event.item.metadata.name) for event in await anext(events)]
        assert seen == [("ADDED", "new"), ("DELETED", "old")]
        await events.aclose()  # type: ignore[attr-defined]


async def test_a_watch_resumes_after_the_version_it_last_saw(setup: Setup) -> None:
    for number in range(3):
        setup.api.add("configmaps", config_map(f"m{number}"))
    async with setup.client() as objects:
        version = (await objects.get(MAPS, "m0", "default")).metadata.resource_version
        events = objects.watch(MAPS, "default", resource_version=version)
        seen: list[str] = []
        while len(seen) < 2:
            seen += [event.item.metadata.name for event in await anext(events)]
        assert seen == ["m1", "m2"]


async def test_a_watch_from_forgotten_history_is_out_of_range(setup: Setup) -> None:
    setup.api.add("configmaps", config_map("x"))
    setup.api.add("configmaps", config_map("y"))
    setup.api.compact()
    async with setup.client() as objects:
        with pytest.raises(StatusError) as caught:
            await anext(objects.watch(MAPS, "default", resource_version="1"))
    assert (caught.value.code, caught.value.reason) == (410, "Expired")


async def test_many_events_share_a_message(setup: Setup) -> None:
    for number in range(250):
        setup.api.add("configmaps", config_map(f"m{number:03}"))
    async with setup.client() as objects:
        sizes = []
        async for batch in objects.watch(MAPS, "default"):
            sizes.append(len(batch))
            if sum(sizes) == 250:
                break
    assert sizes == [100, 100, 50]


async def test_a_cancelled_watch_ends_the_subscription(setup: Setup) -> None:
    setup.api.add("configmaps", config_map("x"))
    async with setup.client() as objects:
        events = objects.watch(MAPS, "default")
        await anext(events)
        assert len(setup.api._watchers) == 1
        await events.aclose()  # type: ignore[attr-defined]
        async with asyncio.timeout(60):
            while setup.api._watchers:  # noqa: ASYNC110
                await asyncio.sleep(0)


class Never:
    """A transport that answers nothing."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()

    async def request(self, *_: Any, **__: Any) -> tuple[int, bytes]:
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        raise AssertionError


async def test_a_deadline_ends_the_call_on_both_sides(setup: Setup) -> None:
    async with setup.client() as objects:
        # The deadline is not to pass while the connection is being made: the server would never hear of the call.
        await objects.list(MAPS, "default")
        setup.transport = never = Never()
        with pytest.raises(StatusError) as caught:
            await objects.get(MAPS, "x", "default", deadline=1.0)
        async with asyncio.timeout(60):
            await never.cancelled.wait()
    assert caught.value.code == 504


def operations() -> list[pb.Operation]:
    maps = resource(MAPS)

    def create(name: str) -> pb.Operation:
        body = orjson.dumps(config_map(name))
        return pb.Operation(create=pb.CreateRequest(resource=maps, namespace="default", json=body))

    get = pb.Operation(get=pb.GetRequest(resource=maps, namespace="default", name="missing"))
    return [create("a"), get, create("b")]


async def test_a_batch_reports_each_operation_by_itself(setup: Setup) -> None:
    async with setup.client() as objects:
        results = await objects.batch(operations())
    assert [result.WhichOneof("result") for result in results] == ["object", "error", "object"]
    assert results[1].error.code == grpc.StatusCode.NOT_FOUND.value[0]


async def test_a_batch_in_order_stops_at_the_first_failure(setup: Setup) -> None:
    async with setup.client() as objects:
        results = await objects.batch(operations(), in_order=True)
    assert [result.WhichOneof("result") for result in results] == ["object", "error", "skipped"]
    assert setup.api.get("configmaps", "b") is None


async def test_a_request_without_a_resource_is_an_invalid_argument(setup: Setup) -> None:
    async with setup.client() as objects:
        with pytest.raises(StatusError, match="must be set"):
            await objects._unary("Get", pb.GetRequest(), pb.Object, None)


async def test_a_subresource_of_no_object_is_refused_and_not_one_of_the_collection(setup: Setup) -> None:
    async with setup.client() as objects:
        with pytest.raises(StatusError, match="name must be set"):
            await objects.create("v1/serviceaccounts/token", {"metadata": {"name": "x"}}, "default")
        with pytest.raises(StatusError, match="name must be set"):
            await objects.list("v1/pods/status", "default")
    assert setup.api.get("serviceaccounts", "x") is None


def raw_channel(setup: Setup) -> grpc.aio.Channel:
    return grpc.aio.secure_channel(setup.target, grpc.ssl_channel_credentials(setup.ca_pem))


async def test_health_says_serving(setup: Setup) -> None:
    async with raw_channel(setup) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service="kubecore.v1.Objects"))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("version", ["v1alpha", "v1"])
async def test_reflection_lists_the_services(setup: Setup, version: str) -> None:
    async with raw_channel(setup) as channel:
        ask = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        answer = await ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")])).read()
    names = {service.name for service in answer.list_services_response.service}
    assert {"kubecore.v1.Objects", "grpc.health.v1.Health"} <= names


@pytest.mark.parametrize("path", ["", "pods", "v1", "/v1/pods", "apps/v1/deployments/scale/more", "apps//deployments"])
def test_a_resource_is_group_version_plural(path: str) -> None:
    with pytest.raises(ValueError, match="not GROUP/VERSION/RESOURCE"):
        resource(path)


def test_a_group_may_begin_as_a_version_does() -> None:
    found = resource("v1.example.com/v1beta1/things/status")
    assert (found.group, found.version, found.resource) == ("v1.example.com", "v1beta1", "things")
    assert found.subresource == "status"


class Heard:
    """A transport that keeps what it is asked."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.queries: list[Mapping[str, str]] = []

    async def request(self, *_: Any, query: Mapping[str, str], **__: Any) -> tuple[int, bytes]:
        self.queries.append(query)
        return 200, orjson.dumps(self.answer)


async def test_a_client_applies_under_its_name(setup: Setup) -> None:
    setup.transport = heard = Heard(config_map("x"))
    async with connect(setup.target, ca=setup.ca_pem, token="secret", field_manager="me") as objects:
        await objects.patch(MAPS, "x", config_map("x"), "default", kind="apply", force=True, field_validation="Strict")
    assert heard.queries == [{"fieldManager": "me", "fieldValidation": "Strict", "force": "true"}]


async def test_a_list_may_be_of_a_certain_version(setup: Setup) -> None:
    setup.transport = heard = Heard({"metadata": {"resourceVersion": "5"}, "items": []})
    async with setup.client() as objects:
        await objects.list(MAPS, resource_version="5", resource_version_match="Exact")
    assert heard.queries[0]["resourceVersion"] == "5"
    assert heard.queries[0]["resourceVersionMatch"] == "Exact"


async def test_a_method_that_is_not_there_is_no_internal_error(setup: Setup) -> None:
    async with setup.client() as objects:
        with pytest.raises(StatusError) as caught:
            await objects._unary("Nothing", pb.GetRequest(), pb.Object, None)
    assert (caught.value.code, caught.value.reason) == (405, "MethodNotAllowed")


# --- bounds


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connected(setup: Setup) -> Ends:
    """A connection on which nothing is said."""
    context = ssl.create_default_context(cadata=setup.ca_pem.decode())
    context.set_alpn_protocols(["h2"])
    return await asyncio.open_connection("127.0.0.1", setup.port, ssl=context, server_hostname="localhost")


async def ended(ends: Ends) -> bool:
    """The other side has ended it, in whatever way."""
    with suppress(OSError):
        await ends[0].read()
    ends[1].close()
    return ends[0].at_eof() or ends[0].exception() is not None


async def test_a_connection_on_which_nothing_is_asked_ends(tmp_path: Path) -> None:
    async with serving(tmp_path, header_timeout=0.1) as setup, asyncio.timeout(60):
        assert await ended(await connected(setup))


async def test_a_call_that_never_says_what_it_wants_keeps_no_connection(tmp_path: Path) -> None:
    async def nothing() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    async with serving(tmp_path, header_timeout=0.1) as setup, asyncio.timeout(60), raw_channel(setup) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.stream_unary("/kubecore.v1.Objects/Get")(nothing())
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_a_connection_lasts_as_long_as_something_is_asked_on_it(tmp_path: Path) -> None:
    limits = {"header_timeout": 1.0, "idle_timeout": 1.0}
    async with serving(tmp_path, **limits) as setup, asyncio.timeout(60), setup.client() as objects:
        await objects.create(MAPS, config_map("first"), "default")
        watch = objects.watch(MAPS, "default")
        await anext(watch)
        for _ in range(2):
            assert await ended(await connected(setup))
        await setup.api.request("POST", "/api/v1/namespaces/default/configmaps", body=orjson.dumps(config_map("x")))
        assert [event.item.metadata.name for event in await anext(watch)] == ["x"]


async def test_a_connection_ends_when_nothing_more_is_asked(tmp_path: Path) -> None:
    async with serving(tmp_path, idle_timeout=0.1) as setup, asyncio.timeout(60), raw_channel(setup) as channel:
        assert (await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())).status == 1
        await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)


async def test_what_anybody_may_ask_for_ever_keeps_no_connection(tmp_path: Path) -> None:
    limits = {"header_timeout": 1.0, "idle_timeout": 0.1}
    async with serving(tmp_path, **limits) as setup, asyncio.timeout(60), raw_channel(setup) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in watch:
                pass
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_a_connection_has_so_many_calls_at_once_as_one_of_rest(tmp_path: Path) -> None:
    async with serving(tmp_path, max_streams=7) as setup, asyncio.timeout(60):
        reader, writer = await connected(setup)
        head = await reader.readexactly(9)
        settings = await reader.readexactly(int.from_bytes(head[:3]))
        writer.close()
    assert head[3] == 4, "the server begins with its settings"
    told = {
        int.from_bytes(settings[at : at + 2]): int.from_bytes(settings[at + 2 : at + 6])
        for at in range(0, len(settings), 6)
    }
    assert told[3] == 7
