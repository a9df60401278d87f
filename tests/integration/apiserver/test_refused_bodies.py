"""What a refused request held, its body above all, is let go of with the answer and does not wait for the garbage
collector, which comes by seldom: else refused bodies of 3 MiB would take all memory there is.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import orjson
import pytest
import pytest_asyncio

import kubecore
from kubecore.apiserver.server import APIServer

from .conftest import Api, config_map
from .http import Http

pytestmark = pytest.mark.asyncio(loop_scope="module")

PACKAGE = Path(kubecore.__file__).parent
MAPS, DEPRECATED = "v1/configmaps", "v1/endpoints"
MARK = b"Refused-Mark"
JSON, YAML = "application/json", "application/yaml"
APPLY, MERGE, PATCH = "application/apply-patch+yaml", "application/merge-patch+json", "application/json-patch+json"
INVALID = orjson.dumps({"metadata": {"name": MARK.decode()}})
WARNED = orjson.dumps({"metadata": {"name": MARK.decode()}, "unknown": 1})
BROKEN = b'{"%s' % MARK
REFUSED = [
    ("POST", MAPS, INVALID, JSON, 422),
    ("POST", MAPS, WARNED, JSON, 422),
    ("POST", DEPRECATED, INVALID, JSON, 422),
    ("POST", MAPS, BROKEN, JSON, 400),
    ("POST", MAPS, b"[%s" % MARK, YAML, 400),
    ("PUT", MAPS, INVALID, JSON, 400),
    ("PATCH", MAPS, BROKEN, MERGE, 400),
    ("PATCH", MAPS, b'[{"op":"%s"' % MARK, PATCH, 400),
    ("PATCH", MAPS, b"%s: [" % MARK, APPLY, 400),
    ("PATCH", MAPS, orjson.dumps({"metadata": {"labels": {MARK.decode(): "/"}}}), MERGE, 422),
    ("DELETE", MAPS, orjson.dumps({"propagationPolicy": MARK.decode()}), JSON, 422),
]


@pytest_asyncio.fixture(loop_scope="module")
async def http(server: APIServer, tmp_path: Path) -> AsyncIterator[Http]:
    async with Http(server, tmp_path, pair=server.issue_client_certificate("root", ["system:masters"])) as made:
        yield made


@contextmanager
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def kept() -> list[str]:
    """The functions of the server whose frames are still there with what was sent."""
    frames = [one for one in gc.get_objects() if isinstance(one, FrameType)]
    ours = [frame for frame in frames if Path(frame.f_code.co_filename).is_relative_to(PACKAGE)]
    return [frame.f_code.co_qualname for frame in ours if any(map(is_sent, frame.f_locals.values()))]


def is_sent(value: object) -> bool:
    return isinstance(value, bytes) and MARK in value


def path_of(api: Api, method: str, resource: str) -> str:
    return api.path(resource, "" if method == "POST" else "a")


@pytest.mark.parametrize(("method", "resource", "body", "media", "code"), REFUSED)
async def test_nothing_of_a_refused_request_is_kept(
    http: Http, api: Api, method: str, resource: str, body: bytes, media: str, code: int
) -> None:
    await api.create(MAPS, config_map("a"))
    query = "?fieldManager=m" if media == APPLY else ""
    with no_collection():
        answer = await http.call(method, path_of(api, method, resource) + query, body, {"Content-Type": media})
        assert answer.status == code, answer.body
        assert kept() == []


@pytest.mark.parametrize(("method", "resource", "body", "media", "code"), REFUSED)
async def test_nor_of_one_that_was_asked_within_the_process(
    api: Api, method: str, resource: str, body: bytes, media: str, code: int
) -> None:
    await api.create(MAPS, config_map("a"))
    query = {"fieldManager": "m"} if media == APPLY else {}
    with no_collection():
        status, _ = await api.call(method, path_of(api, method, resource), body, media, **query)
        assert status == code
        assert kept() == []
