"""What REST's answers have headers for is metadata of calls over gRPC: the audit's id, and warnings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import grpc.aio
import orjson
import pytest
from google.protobuf.message import Message

from kubecore.api.errors import StatusError
from kubecore.api.v1pb import objects_pb2 as pb
from kubecore.apiserver.server import APIServer
from kubecore.client.grpc import GrpcClient, connect

from .http import Http
from .serving import served
from .test_audit import events
from .test_deprecations import ENDPOINTS
from .test_grpc_records import auditing

pytestmark = pytest.mark.asyncio

MAPS, OLD = (pb.Resource(version="v1", resource=plural) for plural in ("configmaps", "endpoints"))
HERE = {"namespace": "default"}
Metadata = Any


@asynccontextmanager
async def channel_to(server: APIServer) -> AsyncIterator[grpc.aio.Channel]:
    pair = server.issue_client_certificate("root", ["system:masters"])
    trust = grpc.ssl_channel_credentials(server.authority.certificate, pair.key, pair.certificate)
    async with grpc.aio.secure_channel(f"localhost:{server.grpc_port}", trust) as channel:
        yield channel


def told(metadata: Metadata, name: str) -> list[str]:
    return [value for key, value in metadata or () if key == name]


async def at_the_end(
    channel: grpc.aio.Channel, name: str, request: Message, **said: str
) -> tuple[grpc.StatusCode, Metadata]:
    """How a call with one answer ends, and what it is told then."""
    method = channel.unary_unary(f"/kubecore.v1.Objects/{name}", type(request).SerializeToString)
    call = method(request, metadata=[(key.replace("_", "-"), value) for key, value in said.items()], timeout=60)
    return await call.code(), await call.trailing_metadata()


async def at_the_beginning(channel: grpc.aio.Channel, name: str, request: Message) -> Metadata:
    """What a stream is told before anything else."""
    method = channel.unary_stream(f"/kubecore.v1.Objects/{name}", type(request).SerializeToString)
    call = method(request, timeout=60)
    try:
        return await call.initial_metadata()
    finally:
        call.cancel()


def creating(resource: pb.Resource, body: Any, **options: Any) -> pb.CreateRequest:
    return pb.CreateRequest(resource=resource, json=orjson.dumps(body), options=pb.WriteOptions(**options), **HERE)


async def test_each_call_is_told_the_id_by_which_the_audit_tells_of_it(tmp_path: Path) -> None:
    """Whether it succeeds or not; the client's own one, if it has given one."""
    async with served(tmp_path, grpc_port=0, audit=auditing(tmp_path)) as server, channel_to(server) as channel:
        made = await at_the_end(channel, "Create", creating(MAPS, {"metadata": {"name": "a"}}))
        failed = await at_the_end(channel, "Get", pb.GetRequest(resource=MAPS, name="none", **HERE))
        given = await at_the_end(channel, "Get", pb.GetRequest(resource=MAPS, name="a", **HERE), audit_id="mine")
        listed = await at_the_beginning(channel, "List", pb.ListRequest(resource=MAPS, **HERE))
        watched = await at_the_beginning(channel, "Watch", pb.WatchRequest(resource=MAPS, **HERE))
    codes = [code for code, _ in (made, failed, given)]
    assert codes == [grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.OK]
    ids = [told(metadata, "audit-id") for metadata in (made[1], failed[1], given[1], listed, watched)]
    assert all(len(one) == 1 for one in ids)
    assert ids[2] == ["mine"]
    verbs = [events(tmp_path, one[0])[-1]["verb"] for one in ids]
    assert verbs == ["create", "get", "get", "list", "watch"]
    assert len({one[0] for one in ids}) == 5


async def test_all_that_one_call_asks_is_told_by_one_id(tmp_path: Path) -> None:
    async with served(tmp_path, grpc_port=0, audit=auditing(tmp_path)) as server, channel_to(server) as channel:
        operations = [pb.Operation(create=creating(MAPS, {"metadata": {"name": name}})) for name in ("a", "b", "c")]
        _, metadata = await at_the_end(channel, "Batch", pb.BatchRequest(operations=operations))
    (audit_id,) = told(metadata, "audit-id")
    done = [one for one in events(tmp_path, audit_id) if one["stage"] == "ResponseComplete"]
    assert sorted(one["objectRef"]["name"] for one in done) == ["a", "b", "c"]


async def test_an_id_that_is_too_long_to_be_told_breaks_nothing(tmp_path: Path) -> None:
    async with served(tmp_path, grpc_port=0, audit=auditing(tmp_path)) as server, channel_to(server) as channel:
        request = pb.GetRequest(resource=MAPS, name="none", **HERE)
        code, metadata = await at_the_end(channel, "Get", request, audit_id="x" * 4_000)
    assert (code, told(metadata, "audit-id")) == (grpc.StatusCode.NOT_FOUND, [])
    assert events(tmp_path, "x" * 4_000)


async def test_calls_are_warned_as_requests_are(tmp_path: Path) -> None:
    """Streams before anything happens to what they watch."""
    async with served(tmp_path, grpc_port=0) as server, channel_to(server) as channel:
        body = {"metadata": {"name": "a"}}
        made = await at_the_end(channel, "Create", creating(OLD, body))
        again = await at_the_end(channel, "Create", creating(OLD, body))
        batch = pb.BatchRequest(operations=[pb.Operation(create=creating(OLD, body))] * 3)
        together = await at_the_end(channel, "Batch", batch)
        listed = await at_the_beginning(channel, "List", pb.ListRequest(resource=OLD, **HERE))
        await at_the_end(channel, "Delete", pb.DeleteRequest(resource=OLD, name="a", **HERE))
        watched = await at_the_beginning(channel, "Watch", pb.WatchRequest(resource=OLD, **HERE))
        silent = await at_the_end(channel, "Create", creating(MAPS, body))
    assert again[0] == grpc.StatusCode.ALREADY_EXISTS
    for metadata in (made[1], again[1], together[1], listed, watched):
        assert told(metadata, "warning") == [ENDPOINTS]
    assert told(silent[1], "warning") == []


@pytest.mark.parametrize("field", ["größe", "100%", "a\x7fb", "漢" * 2_000])
async def test_what_metadata_cannot_say_is_written_in_percent_encoding(tmp_path: Path, field: str) -> None:
    async with served(tmp_path, grpc_port=0) as server, channel_to(server) as channel:
        body = {"metadata": {"name": "a"}, "data": {}, field: 1}
        pair = server.issue_client_certificate("root", ["system:masters"])
        async with Http(server, tmp_path, pair=pair) as http:
            answer: Any = await http.call("POST", "/api/v1/namespaces/default/configmaps?dryRun=All", body)
        code, metadata = await at_the_end(channel, "Create", creating(MAPS, body))
    assert code == grpc.StatusCode.OK
    heard = [unquote(one) for one in told(metadata, "warning")]
    if len(field) < 1_000:
        assert heard == answer.headers.getall("Warning", [])
    else:
        (whole,), (cut,) = answer.headers.getall("Warning"), heard
        assert cut.endswith('"') and 200 < len(cut) < 300
        assert whole.startswith(cut.removesuffix('"'))


async def test_warnings_that_are_too_many_for_metadata_leave_room_for_the_failure(tmp_path: Path) -> None:
    """Many clients take 8 KiB: they would fail what has succeeded, and tell of these where it has not."""
    unknown = {f"{number:04}-{'x' * 60}": 1 for number in range(40)}
    long_name = "y" * 2_000
    async with served(tmp_path, grpc_port=0) as server, channel_to(server) as channel:
        good = await at_the_end(channel, "Create", creating(MAPS, {"metadata": {"name": "a"}, **unknown}))
        bad = await at_the_end(channel, "Create", creating(MAPS, {"metadata": {"name": long_name}, **unknown}))
    for (code, metadata), wanted in ((good, grpc.StatusCode.OK), (bad, grpc.StatusCode.INVALID_ARGUMENT)):
        assert code == wanted
        assert told(metadata, "audit-id") and told(metadata, "warning")
        # What ends with -bin is sent in base64.
        sent = (len(key) + 32 + len(value) * (4 / 3 if key.endswith("-bin") else 1) for key, value in metadata)
        assert sum(sent) < 8_000
    assert told(bad[1], "grpc-status-details-bin")
    assert len(told(bad[1], "warning")) < len(told(good[1], "warning")) <= len(unknown)


async def test_the_client_hears_warnings_as_they_were_meant(tmp_path: Path) -> None:
    heard: list[str] = []
    async with served(tmp_path, grpc_port=0) as server:
        pair = server.issue_client_certificate("root", ["system:masters"])
        client: GrpcClient = connect(
            f"127.0.0.1:{server.grpc_port}",
            ca=server.authority.certificate,
            certificate=pair.certificate,
            key=pair.key,
            warned=heard.append,
        )
        async with asyncio.timeout(60):
            await client.create("v1/configmaps", {"metadata": {"name": "a"}, "größe": 1}, "default")
            assert heard == ['299 - "unknown field \\"größe\\""']
            await client.list("v1/endpoints", "default")
            assert heard[1:] == [ENDPOINTS]
            # There is one, of `kubernetes`.
            async for _ in client.watch("v1/endpoints", "default"):
                break
            assert heard[2:] == [ENDPOINTS]
            with pytest.raises(StatusError):
                await client.get("v1/endpoints", "none", "default")
            assert heard[3:] == [ENDPOINTS]
    async with client:
        for asked in (client.get("v1/endpoints", "a", "default"), client.list("v1/endpoints", "default")):
            with pytest.raises(StatusError):
                await asked
    assert len(heard) == 4, "nobody has answered"
