"""How clients keep documents: by tags, by the time, by their hashes."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest

from kubecore.api import scheme
from kubecore.apiserver.openapi.serving import V3_PROTOBUF, Known, OpenAPI

# On a leap day, at an odd microsecond.
NOW, TOLD = datetime(2028, 2, 29, 12, 30, 59, 999, tzinfo=UTC), "Tue, 29 Feb 2028 12:30:59 GMT"


def now() -> datetime:
    return NOW


@pytest.fixture(scope="module")
def openapi() -> OpenAPI:
    return OpenAPI(scheme.default(), server_version="1.35", now=now)


def url_of(openapi: OpenAPI, name: str) -> tuple[str, str]:
    """Path and query of a document, as the index has them."""
    answer = openapi.respond("/openapi/v3")
    assert answer is not None
    path, _, query = orjson.loads(answer.body)["paths"][name]["serverRelativeURL"].partition("?")
    return path, query


def test_both_forms_of_a_document_have_one_tag_and_one_hash(openapi: OpenAPI) -> None:
    path, query = url_of(openapi, "version")
    answers = [openapi.respond(path, query, accept=accept) for accept in ("application/json", V3_PROTOBUF)]
    tags = [dict(answer.headers)["ETag"] for answer in answers if answer is not None]
    assert tags[0] == tags[1] == f'"{query.removeprefix("hash=")}"'
    again = openapi.respond(path, query, accept=V3_PROTOBUF, known=Known(tags[0]))
    assert again is not None
    assert (again.status, again.body, again.content_type) == (304, b"", "")


def test_a_tag_is_known_by_a_list_of_tags_weak_ones_and_any(openapi: OpenAPI) -> None:
    path = "/openapi/v3/apis/apps/v1"
    first = openapi.respond(path)
    assert first is not None
    tag = dict(first.headers)["ETag"]
    for sent, status in ((f'"x", {tag}', 304), (f"W/{tag}", 304), ("*", 304), (f'"x{tag[1:]}', 200), (tag[1:-1], 200)):
        again = openapi.respond(path, known=Known(sent))
        assert again is not None
        assert again.status == status, sent


def test_the_index_of_v3_has_no_tag(openapi: OpenAPI) -> None:
    answer = openapi.respond("/openapi/v3", accept="application/json")
    assert answer is not None
    assert answer.headers == (("Last-Modified", TOLD), ("Cache-Control", "no-cache, private"))


def test_a_document_that_is_asked_for_by_its_hash_lasts_a_year(openapi: OpenAPI) -> None:
    path, query = url_of(openapi, "apis/apps/v1")
    by_hash, by_path = openapi.respond(path, query), openapi.respond(path)
    assert by_hash is not None
    assert by_path is not None
    assert dict(by_hash.headers)["Expires"] == "Thu, 01 Mar 2029 12:30:59 GMT"
    assert "Expires" not in dict(by_path.headers)


@pytest.mark.parametrize(
    ("known", "status"),
    [
        (Known(since=TOLD), 304),
        (Known(since="Tue, 29 Feb 2028 12:31:00 GMT"), 304),
        (Known(since="Tue, 29 Feb 2028 12:30:58 GMT"), 200),
        (Known(since="Tue, 29 Feb 2028 12:30:59 -0000"), 304),
        (Known(since="yesterday"), 200),
        # Who knows another document by its tag is not asked for the time.
        (Known('"x"', TOLD), 200),
    ],
)
@pytest.mark.parametrize("path", ["/openapi/v2", "/openapi/v3/apis/apps/v1"])
def test_a_document_is_known_by_when_it_was_made(openapi: OpenAPI, path: str, known: Known, status: int) -> None:
    answer = openapi.respond(path, known=known)
    assert answer is not None
    assert answer.status == status
    assert ("Last-Modified" in dict(answer.headers)) == (status == 200)


def test_the_index_is_never_what_a_client_has_already(openapi: OpenAPI) -> None:
    """Else kubectl, which keeps it by its time, would not find a definition that was added within a second of it."""
    for known in (Known(since=TOLD), Known("*")):
        answer = openapi.respond("/openapi/v3", known=known)
        assert answer is not None
        assert (answer.status, "paths" in orjson.loads(answer.body)) == (200, True)


def test_of_two_documents_of_one_second_the_later_one_tells_the_next() -> None:
    openapi = OpenAPI(scheme.default(), server_version="1.35", now=now)
    path = "/openapi/v3/apis/apps/v1"
    openapi.respond(path)
    openapi._documents[path] = openapi._documents[path]._replace(digest="another")
    answer = openapi.respond(path, known=Known(since=TOLD))
    assert answer is not None
    assert (answer.status, dict(answer.headers)["Last-Modified"]) == (200, "Tue, 29 Feb 2028 12:31:00 GMT")
