"""Requests that two programs in a row could read differently, and clients that mean to wear the server out.

Header smuggling (CL.TE, TE.CL, doubled and signed lengths, folded and spaced names), hop-by-hop tricks, rapid resets of
HTTP/2 streams (CVE-2023-44487), heads and bodies that never come to an end (slow-loris).
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.settings
import hyperframe.frame
import pytest

from kubecore.apiserver.authentication.pki import KeyPair
from kubecore.apiserver.server import APIServer

from .conftest import Api
from .http import Http

pytestmark = pytest.mark.asyncio(loop_scope="module")

HIDDEN = b"GET /version HTTP/1.1\r\nHost: hidden\r\n\r\n"
POST = b"POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"


def context(server: APIServer, folder: Path, pair: KeyPair | None = None, *protocols: str) -> ssl.SSLContext:
    made = ssl.create_default_context(cadata=server.authority.certificate.decode())
    if protocols:
        made.set_alpn_protocols(list(protocols))
    if pair is not None:
        file = folder / "smuggler.pem"
        file.write_bytes(pair.certificate + pair.key)
        made.load_cert_chain(file)
    return made


async def said(server: APIServer, folder: Path, request: bytes, pair: KeyPair | None = None) -> bytes:
    """All that the server answers until it ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.secure_port, ssl=context(server, folder, pair))
    writer.write(request)
    async with asyncio.timeout(30):
        answer = await reader.read()
    writer.close()
    return answer


def master(server: APIServer) -> KeyPair:
    return server.issue_client_certificate("root", ["system:masters"])


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 6\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 6\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        b"Content-Length: 2\r\nContent-Length: 7\r\n\r\n{}",
        b"Content-Length: 2, 7\r\n\r\n{}",
        b"Content-Length: +2\r\n\r\n{}",
        b"Content-Length: 0x2\r\n\r\n{}",
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length : 2\r\n\r\n{}",
        b"Content-Length: 2\r\n folded: yes\r\n\r\n{}",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n{}\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n2;a=\x00\r\n{}x\r\n0\r\n\r\n",
        b"X-One: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
async def test_a_request_that_can_be_read_in_two_ways_is_refused_with_all_that_follows(
    server: APIServer, tmp_path: Path, head: bytes
) -> None:
    answer = await said(server, tmp_path, POST + head + HIDDEN, master(server))
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert b"gitVersion" not in answer


async def test_of_a_length_and_chunks_the_chunks_count_and_the_connection_ends(
    server: APIServer, tmp_path: Path
) -> None:
    """RFC 9112, 6.3: not the length, which somebody in front may have believed."""
    head = b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n"
    answer = await said(server, tmp_path, POST + head + HIDDEN, master(server))
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"gitVersion" not in answer


@pytest.mark.parametrize("path", [b"/version", b"/api/v1/secrets", b"/none"])
async def test_without_a_host_nothing_is_said_but_that(server: APIServer, tmp_path: Path, path: bytes) -> None:
    """In the words of Go's server, net/http/server.go."""
    for pair in (None, master(server)):
        answer = await said(server, tmp_path, b"GET " + path + b" HTTP/1.1\r\nAccept: */*\r\n\r\n", pair)
        head, body = answer.split(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 Bad Request: missing required Host header\r\n"), answer
        assert b"content-type: text/plain; charset=utf-8" in head.lower()
        assert body == b"400 Bad Request: missing required Host header"
    assert (await said(server, tmp_path, b"GET " + path + b" HTTP/1.0\r\n\r\n")).split(b" ")[1] != b"400"


@pytest.mark.parametrize(
    ("hosts", "told"),
    [
        (b"Host: here\r\nHost: there\r\n", b"400 Bad Request"),
        (b"Host: here\r\nAccept: */*\r\nhost: here\r\n", b"400 Bad Request"),
        (b"Host: here/there\r\n", b"400 Bad Request: malformed Host header"),
        (b"Host: me@here\r\n", b"400 Bad Request: malformed Host header"),
        (b"Host: h\xc3\xa9re\r\n", b"400 Bad Request: malformed Host header"),
    ],
)
async def test_with_several_hosts_or_one_that_is_none_nothing_is_said_but_that(
    server: APIServer, tmp_path: Path, hosts: bytes, told: bytes
) -> None:
    """Who stands in front may have looked at another one than we do."""
    for version in (b"HTTP/1.1", b"HTTP/1.0"):
        answer = await said(server, tmp_path, b"GET /version " + version + b"\r\n" + hosts + b"\r\n", master(server))
        head, body = answer.split(b"\r\n\r\n")
        assert head.split(b"\r\n")[0].partition(b" ")[2] == told
        assert b"connection: close" in head.lower()
        assert body == told


@pytest.mark.parametrize("host", [b"", b"here:6443", b"[::1]:6443", b"a_b.example.com"])
async def test_whatever_host_there_may_be_is_answered(server: APIServer, tmp_path: Path, host: bytes) -> None:
    request = b"GET /version HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n"
    assert (await said(server, tmp_path, request, master(server))).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "header",
    [
        "X-Remote-User: root\r\nX-Remote-Group: system:masters",
        "X_Remote_User: root\r\nX_Remote_Group: system:masters",
        "Impersonate-User: root\r\nImpersonate-Group: system:masters",
        "impersonate-user: root\r\nConnection: Impersonate-User",
        "Impersonate_User: root",
        "X-Forwarded-User: root\r\nX-Forwarded-Client-Cert: Subject=root",
        "Authorization: Basic cm9vdDpyb290",
    ],
)
async def test_headers_make_nobody_another_one(server: APIServer, tmp_path: Path, header: str) -> None:
    head = f"GET /api/v1/secrets HTTP/1.1\r\nHost: here\r\n{header}\r\nConnection: close\r\n\r\n"
    for pair in (None, server.issue_client_certificate("nobody")):
        answer = await said(server, tmp_path, head.encode(), pair)
        assert answer.split(b" ", 2)[1] in (b"401", b"403"), answer


# --- HTTP/2


class Stream2:
    """A connection of HTTP/2 as a client that keeps no rules."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.h2.initiate_connection()

    async def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())
        await self.writer.drain()

    async def until_the_end(self) -> h2.events.ConnectionTerminated | None:
        """How the server ended the connection."""
        async with asyncio.timeout(30):
            while data := await self.reader.read(65536):
                for event in self.h2.receive_data(data):
                    if isinstance(event, h2.events.ConnectionTerminated):
                        return event
        return None


async def http2(server: APIServer, folder: Path, pair: KeyPair | None = None) -> Stream2:
    tls = context(server, folder, pair, "h2")
    return Stream2(*await asyncio.open_connection("127.0.0.1", server.secure_port, ssl=tls))


async def answered(client: Stream2) -> tuple[bytes, bool]:
    """The code of the answer, and whether the server ends the connection in good order (GOAWAY), rather than answering
    another ping. Read frame by frame: to h2 nothing is left to be said after a GOAWAY."""
    unread, code, said = b"", b"", {hyperframe.frame.GoAwayFrame: False, hyperframe.frame.PingFrame: False}
    async with asyncio.timeout(30):
        while not code or not any(said.values()):
            unread += await client.reader.read(65536)
            while len(unread) >= 9:
                frame, length = hyperframe.frame.Frame.parse_frame_header(memoryview(unread[:9]))
                if len(unread) < 9 + length:
                    break
                frame.parse_body(memoryview(unread[9 : 9 + length]))
                unread = unread[9 + length :]
                if isinstance(frame, hyperframe.frame.HeadersFrame):
                    code = dict(client.h2.decoder.decode(frame.data, raw=True))[b":status"]
                    client.h2.ping(b"answered")
                    await client.flush()
                if isinstance(frame, hyperframe.frame.GoAwayFrame):
                    assert frame.error_code == 0
                    said[type(frame)] = True
                if isinstance(frame, hyperframe.frame.PingFrame) and "ACK" in frame.flags:
                    said[type(frame)] = True
    return code, said[hyperframe.frame.GoAwayFrame]


HEADERS = [(":method", "GET"), (":path", "/api/v1/pods"), (":scheme", "https"), (":authority", "here")]


async def test_who_resets_streams_as_fast_as_they_open_is_sent_away_and_others_are_served(
    server: APIServer, api: Api, tmp_path: Path
) -> None:
    client = await http2(server, tmp_path, master(server))
    for number in range(1, 8000, 2):
        client.h2.send_headers(number, HEADERS, end_stream=True)
        client.h2.reset_stream(number)
    await client.flush()
    ended = await client.until_the_end()
    # ENHANCE_YOUR_CALM
    assert ended is not None and ended.error_code == 0xB
    client.writer.close()
    async with Http(server, tmp_path, pair=master(server)) as http:
        assert (await http.call("GET", "/api/v1/namespaces")).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        [("transfer-encoding", "chunked")],
        [("connection", "keep-alive")],
        [("content-length", "2"), ("content-length", "7")],
        [("Host", "elsewhere")],
        [("x-one", "a\r\nImpersonate-User: root")],
    ],
)
async def test_headers_that_http2_has_not_are_an_error_of_their_stream(
    server: APIServer, tmp_path: Path, headers: list[tuple[str, str]]
) -> None:
    client = await http2(server, tmp_path, master(server))
    client.h2.config.validate_outbound_headers = False
    client.h2.config.normalize_outbound_headers = False
    client.h2.send_headers(1, [*HEADERS, *headers], end_stream=True)
    await client.flush()
    async with asyncio.timeout(30):
        while True:
            data = await client.reader.read(65536)
            events = client.h2.receive_data(data) if data else []
            assert not [one for one in events if isinstance(one, h2.events.DataReceived)]
            refused = (h2.events.StreamReset, h2.events.ConnectionTerminated)
            if not data or any(isinstance(one, refused) for one in events):
                break
            answers = [one for one in events if isinstance(one, h2.events.ResponseReceived)]
            if answers:
                assert dict(answers[0].headers or [])[b":status"] == b"400"
                break
    client.writer.close()


@pytest.mark.parametrize(("groups", "status"), [(1_000, b"404"), (3_000, b"431")])
async def test_a_head_may_have_the_groups_of_somebody_who_has_a_thousand(
    server: APIServer, tmp_path: Path, groups: int, status: bytes
) -> None:
    """As proxies send them that speak for others."""
    client = await http2(server, tmp_path, master(server))
    of_groups = [("impersonate-group", f"{'g' * 50}-{number}") for number in range(groups)]
    head = [HEADERS[0], (":path", "/api/v1/namespaces/none"), *HEADERS[2:]]
    client.h2.send_headers(
        1, [*head, ("impersonate-user", "root"), ("impersonate-group", "system:masters"), *of_groups]
    )
    client.h2.end_stream(1)
    await client.flush()
    async with asyncio.timeout(30):
        while data := await client.reader.read(65536):
            answers = [one for one in client.h2.receive_data(data) if isinstance(one, h2.events.ResponseReceived)]
            if answers:
                assert dict(answers[0].headers or [])[b":status"] == status
                break
        else:
            raise AssertionError("no answer")
    client.writer.close()


@pytest.mark.parametrize(
    ("path", "token", "code", "ends"),
    [
        ("/version", "", b"200", True),
        ("/api/v1/pods", "", b"403", True),
        ("/version", "nobodys", b"401", True),
        ("/version", None, b"200", False),
    ],
)
async def test_whom_nobody_knows_may_ask_once_on_a_connection_of_http2(
    server: APIServer, tmp_path: Path, path: str, token: str | None, code: bytes, ends: bool
) -> None:
    """UnauthenticatedHTTP2DOSMitigation. Whoever has a certificate (`None`) goes on."""
    client = await http2(server, tmp_path, master(server) if token is None else None)
    asked = [(":method", "GET"), (":path", path), (":scheme", "https"), (":authority", "here")]
    credentials = [("authorization", f"Bearer {token}")] if token else []
    client.h2.send_headers(1, [*asked, *credentials], end_stream=True)
    await client.flush()
    assert await answered(client) == (code, ends)
    client.writer.close()


async def test_more_streams_than_are_allowed_at_once_are_refused(server: APIServer, tmp_path: Path) -> None:
    """A client that does not heed MAX_CONCURRENT_STREAMS opens as many watches as it may, and one more."""
    client = await http2(server, tmp_path, master(server))
    most = 0
    async with asyncio.timeout(30):
        while not most:
            events = client.h2.receive_data(await client.reader.read(65536))
            told = [one for one in events if isinstance(one, h2.events.RemoteSettingsChanged)]
            for one in told:
                limit = one.changed_settings.get(h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS)
                most = limit.new_value if limit is not None else 0
    assert most == 1_000
    # What the client is told it does not heed.
    client.h2.remote_settings[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS] = most + 1
    client.h2.remote_settings.acknowledge()
    watch = [(":method", "GET"), (":path", "/api/v1/namespaces/none/pods?watch=1"), *HEADERS[2:]]
    for number in range(most + 1):
        client.h2.send_headers(1 + 2 * number, watch, end_stream=True)
    await client.flush()
    refused = None
    async with asyncio.timeout(30):
        while refused is None:
            events = client.h2.receive_data(await client.reader.read(65536))
            refused = next((one for one in events if isinstance(one, h2.events.StreamReset)), None)
            await client.flush()
    # REFUSED_STREAM
    assert (refused.stream_id, refused.error_code) == (1 + 2 * most, 0x7)
    client.writer.close()
