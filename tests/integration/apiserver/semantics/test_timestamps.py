"""../shared/API_SEMANTICS.md, line 25: when an entry of managedFields was written, by a clock that a test can set."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from kubecore.clock import RealClock
from tests.integration.apiserver.conftest import Api, config_map
from tests.integration.apiserver.semantics.conftest import APPLY
from tests.integration.apiserver.serving import served

JSON = dict[str, Any]
CM = "v1/configmaps"


class LaterAndLater(RealClock):
    """A minute passes with each look at it."""

    def __init__(self) -> None:
        self._minutes = itertools.count()

    def now(self) -> datetime:
        return super().now() + timedelta(minutes=next(self._minutes))


def times(obj: JSON) -> dict[str, str]:
    return {entry["manager"]: entry["time"] for entry in obj["metadata"]["managedFields"]}


async def test_25_timestamps_of_unchanged_entries_stay(tmp_path: Path) -> None:
    async with served(tmp_path, LaterAndLater()) as server:
        api = Api(server.transport(username="root", groups=["system:masters"]))

        async def applied(manager: str, **data: str) -> dict[str, str]:
            path, config = api.path(CM, "a"), config_map("a", **data)
            status, obj = await api.call("PATCH", path, config, APPLY, fieldManager=manager)
            assert status in (200, 201), obj
            return times(obj)

        first = await applied("me", k="1")
        second = await applied("you", o="1")
        assert second["me"] == first["me"] < second["you"]
        assert await applied("me", k="1") == second, "who applies the same again leaves no time"
        third = await applied("me", k="2")
        assert (third["me"] > second["you"], third["you"]) == (True, second["you"])
        _, patched = await api.patch(CM, "a", {"data": {"p": "1"}}, fieldManager="them")
        assert {name: time for name, time in times(patched).items() if name != "them"} == third
