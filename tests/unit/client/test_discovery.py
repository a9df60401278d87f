"""Resources that a server has beyond its own: what one of the servers behind it says concerns the others nothing."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from kubecore.api import errors
from kubecore.api.scheme import Resource
from kubecore.client.discovery import custom_resources

JSON = dict[str, Any]


class Client:
    """Answers by paths."""

    def __init__(self, **answers: bytes | errors.StatusError) -> None:
        self.answers = answers
        self.known: list[Resource] = []

    async def request(self, method: str, path: str) -> bytes:
        if path == "/apis":
            versions = [(name, {"version": "v1"}) for name in self.answers]
            groups = [{"name": name, "versions": [one], "preferredVersion": one} for name, one in versions]
            return orjson.dumps({"groups": groups})
        answer = self.answers[path.split("/")[2]]
        if isinstance(answer, errors.StatusError):
            raise answer
        return answer

    def learn(self, resource: Resource) -> None:
        self.known.append(resource)


def listed(**entry: Any) -> bytes:
    return orjson.dumps({"resources": [{"name": "as", "kind": "A", "namespaced": True, "verbs": ["list"], **entry}]})


@pytest.mark.parametrize(
    "answer",
    [
        b"{oops",
        b"[]",
        b'{"resources": ["as"]}',
        b'{"resources": [{"name": "as"}]}',
        listed(name=None),
        listed(verbs=3),
        errors.service_unavailable("service unavailable"),
    ],
)
async def test_who_does_not_answer_so_that_one_could_read_it_is_told_as_stale(
    answer: bytes | errors.StatusError,
) -> None:
    client = Client(good=listed(), bad=answer)
    found, failed = await custom_resources(client)  # type: ignore[arg-type]
    assert [one.key for one in found] == [one.key for one in client.known] == ["as.good"]
    assert failed == {"bad/v1": "stale GroupVersion discovery: bad/v1"}


async def test_who_refuses_is_told_as_it_says_itself() -> None:
    refused = errors.StatusError(403, "Forbidden", "not you")
    _, failed = await custom_resources(Client(bad=refused))  # type: ignore[arg-type]
    assert failed == {"bad/v1": "not you"}
