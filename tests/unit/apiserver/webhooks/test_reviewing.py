"""What a webhook answers that reviews, and what is made of it: as clients in Go do, and in their words."""

from __future__ import annotations

import asyncio
import errno
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from kubecore.api.kubeconfig import Kubeconfig
from kubecore.apiserver.webhooks.reviewing import Reviewer, ReviewFailed
from kubecore.apiserver.webhooks.wording import said
from kubecore.clock import VirtualClock
from tests.support.http_peers import read_body, read_head, serving
from tests.support.ports import free_port

JSON = dict[str, Any]
VERSION = "authorization.k8s.io/v1"
REVIEW = {"apiVersion": VERSION, "kind": "SubjectAccessReview", "metadata": {}, "spec": {"user": "jane"}}
YES = {"allowed": True}
BROKEN = b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"


def response(body: bytes | JSON, status: str = "200 OK", *, media: str = "application/json", more: str = "") -> bytes:
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def text(body: str, status: str, more: str = "") -> bytes:
    return response(body.encode(), status, media="text/plain", more=more)


@dataclass
class Webhook:
    """Answers one after the other; the last one again and again. What breaks off is the connection's last."""

    answers: list[bytes]
    asked: list[str] = field(default_factory=list)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await read_head(reader)
            await read_body(reader, head)
            self.asked.append(head.line)
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            writer.write(answer)
            await writer.drain()
            if answer in BROKEN:
                return


@asynccontextmanager
async def asked(clock: VirtualClock, *answers: bytes, path: str = "/") -> AsyncIterator[tuple[Reviewer, Webhook, str]]:
    webhook = Webhook(list(answers))
    async with serving(webhook.handle) as port:
        reviewer = Reviewer(Kubeconfig(server=f"http://127.0.0.1:{port}{path}"), clock, timeout_seconds=3)
        try:
            yield reviewer, webhook, f"http://127.0.0.1:{port}"
        finally:
            await reviewer.close()


def answered(status: Any = None, **more: Any) -> bytes:
    return response({"apiVersion": VERSION, "kind": "SubjectAccessReview", "status": status or YES, **more})


@pytest.mark.parametrize(
    "answer",
    [
        answered(),
        response({"status": YES}),
        response({"kind": "SubjectAccessReview", "status": YES}),
        answered({"allowed": True, "odd": 1}, odd=2),
        text(json.dumps({"status": YES}), "201 Created"),
    ],
    ids=["whole", "without a kind", "without a version", "with unknown fields", "as text"],
)
async def test_a_review_is_read_whatever_it_does_not_say_of_itself(answer: bytes) -> None:
    async with asked(VirtualClock(), answer) as (reviewer, _, _):
        assert (await reviewer.review(REVIEW))["status"] == YES


STATUS = {"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": "not today", "code": 404}
HEAD = 'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
AFTER_VERSION = "couldn't get version/kind; json parse error: "
IN_SCHEME = 'in scheme "pkg/runtime/scheme.go:111"'


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (response(b""), "0-length response with status code: 200 and content type: application/json"),
        (response(b"{oops"), f"{AFTER_VERSION}invalid character 'o' looking for beginning of object key string"),
        (response(b"[]"), f"{AFTER_VERSION}json: cannot unmarshal array into Go value of type {HEAD}"),
        (
            answered({"allowed": "yes"}),
            "json: cannot unmarshal string into Go struct field SubjectAccessReviewStatus.status.allowed of type bool",
        ),
        (
            answered(apiVersion="authorization.k8s.io/v1beta1"),
            "converting (v1beta1.SubjectAccessReview) to (v1.SubjectAccessReview): unknown conversion",
        ),
        (
            answered(kind="LocalSubjectAccessReview"),
            "converting (v1.LocalSubjectAccessReview) to (v1.SubjectAccessReview): unknown conversion",
        ),
        (response(STATUS), "converting (v1.Status) to (v1.SubjectAccessReview): unknown conversion"),
        (
            answered(apiVersion="authorization.k8s.io/v9"),
            f'no kind "SubjectAccessReview" is registered for version "authorization.k8s.io/v9" {IN_SCHEME}',
        ),
        (response(STATUS, "404 Not Found"), "not today"),
        (text("no", "403 Forbidden"), "no"),
        (text("", "400 Bad Request"), "the server rejected our request for an unknown reason"),
        (text("", "503 Unavailable"), "the server is currently unable to handle the request"),
        (
            BROKEN[1],
            "unexpected error when reading response body. Please retry. Original error: unexpected EOF",
        ),
        (
            b"nonsense\r\n\r\n",
            'Post "{url}/?timeout=3s": net/http: HTTP/1.x transport connection broken: malformed HTTP',
        ),
    ],
)
async def test_what_is_no_review_is_told_at_once_in_gos_words(answer: bytes, told: str) -> None:
    async with asked(VirtualClock(), answer) as (reviewer, webhook, url):
        with pytest.raises(ReviewFailed, match=f"^{re.escape(told.replace('{url}', url))}"):
            await reviewer.review(REVIEW)
    assert len(webhook.asked) == 1


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (text("broken\ndown", "500 Internal Server Error"), r'an error on the server ("broken\ndown") has prevented'),
        (text("", "502 Bad Gateway"), 'an error on the server ("") has prevented the request from succeeding'),
        (text("", "504 Gateway Timeout"), "the server was unable to return a response in the time allotted"),
        (text("", "429 Too Many Requests"), "the server has received too many requests and has asked us to try again"),
        (response({**STATUS, "reason": "InternalError"}, "418 I"), "not today"),
    ],
)
async def test_what_may_be_better_a_moment_later_is_asked_five_times(answer: bytes, told: str) -> None:
    clock = VirtualClock()
    async with asked(clock, answer) as (reviewer, webhook, url):
        review = asyncio.ensure_future(reviewer.review(REVIEW))
        await clock.advance(60)
        with pytest.raises(ReviewFailed, match=f"^{re.escape(told.replace('{url}', url))}"):
            await review
    assert len(webhook.asked) == 5


async def test_who_closes_the_connection_without_an_answer_is_not_asked_again() -> None:
    async with asked(VirtualClock(), BROKEN[0]) as (reviewer, webhook, url):
        with pytest.raises(ReviewFailed, match=re.escape(f'Post "{url}/?timeout=3s": EOF')):
            await reviewer.review(REVIEW)
    assert len(webhook.asked) == 1


async def test_who_has_closed_the_connection_meanwhile_is_asked_on_another_one() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_body(reader, await read_head(reader))
        writer.write(answered())
        await writer.drain()
        writer.close()

    async with serving(handle) as port:
        reviewer = Reviewer(Kubeconfig(server=f"http://127.0.0.1:{port}"), VirtualClock(), timeout_seconds=3)
        for _ in range(5):
            assert (await reviewer.review(REVIEW))["status"] == YES
            while reviewer._client.keeps("127.0.0.1", port):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)
        await reviewer.close()


async def test_who_insists_asks_again_whatever_is_wrong() -> None:
    clock, port = VirtualClock(), free_port()
    reviewer = Reviewer(Kubeconfig(server=f"http://127.0.0.1:{port}"), clock, timeout_seconds=3, insists=True)
    review = asyncio.ensure_future(reviewer.review(REVIEW))
    await clock.advance(0.1)
    webhook = Webhook([text("no", "403 Forbidden"), answered()])
    async with serving(webhook.handle, port=port):
        await clock.advance(10)
        assert (await review)["status"] == YES
    await reviewer.close()


async def test_a_busy_webhook_is_asked_again_when_it_says_so() -> None:
    clock = VirtualClock()
    busy = text("", "503 Unavailable", "Retry-After: 1\r\n")
    async with asked(clock, busy, busy, answered()) as (reviewer, webhook, _):
        review = asyncio.ensure_future(reviewer.review(REVIEW))
        await clock.advance(2)
        assert (await review)["status"] == YES
    assert len(webhook.asked) == 3


async def test_a_webhook_that_stays_busy_is_waited_for_no_longer_than_for_another_one() -> None:
    clock = VirtualClock()
    async with asked(clock, text("", "429 Busy", "Retry-After: 2\r\n")) as (reviewer, webhook, url):
        review = asyncio.ensure_future(reviewer.review(REVIEW))
        await clock.advance(3)
        with pytest.raises(ReviewFailed, match=re.escape(f'Post "{url}/?timeout=3s": context deadline exceeded')):
            await review
    assert len(webhook.asked) == 2


async def test_the_address_is_a_path_and_says_how_long_we_wait() -> None:
    async with asked(VirtualClock(), answered(), path="/a/b?c=d#e") as (reviewer, webhook, _):
        await reviewer.review(REVIEW)
    assert webhook.asked == ["POST /a/b?timeout=3s HTTP/1.1"]


@pytest.mark.parametrize(
    ("why", "told"),
    [
        ("Connect call failed ('127.0.0.1', 10250)", "127.0.0.1:10250"),
        ("Connect call failed ('::1', 10250, 0, 0)", "[::1]:10250"),
        (
            "Multiple exceptions: [Errno 111] Connect call failed ('::1', 10250, 0, 0), "
            "[Errno 111] Connect call failed ('127.0.0.1', 10250)",
            "[::1]:10250",
        ),
    ],
)
def test_of_a_name_the_address_is_told_that_was_dialed_first(why: str, told: str) -> None:
    key = ConnectionKey("localhost", 10250, True, True, None, None, None)
    error = aiohttp.ClientConnectorError(key, OSError(errno.ECONNREFUSED, why))
    assert said(error) == f"dial tcp {told}: connect: connection refused"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_nobody_listening_is_told_as_go_tells_it(host: str) -> None:
    url = f"http://{host}:{free_port()}"
    reviewer = Reviewer(Kubeconfig(server=url), VirtualClock(), timeout_seconds=3)
    told = rf'Post "{re.escape(url)}/\?timeout=3s": dial tcp (127\.0\.0\.1|\[::1\]):\d+: connect: connection refused'
    with pytest.raises(ReviewFailed, match=told):
        await reviewer.review(REVIEW)
    await reviewer.close()
