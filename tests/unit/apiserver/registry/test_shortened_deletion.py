"""What a repeated delete makes of a deletion that is under way (upstream `rest.BeforeDelete`)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from kubecore.apiserver.registry import lifecycle
from kubecore.apiserver.registry.strategy import RequestContext


@pytest.mark.parametrize(
    ("now", "grace", "end", "left"),
    [
        ("00:00:02", 10, "00:00:10", 10),
        ("00:00:10", 10, "00:00:10", 10),
        # over already: as soon as whoever runs it can end it
        ("00:00:12", 10, "00:00:12", 1),
        ("00:00:12", 0, "00:00:12", 0),
        ("00:00:00", 0, "00:00:00", 0),
    ],
)
def test_it_ends_sooner_but_not_in_the_past(now: str, grace: int, end: str, left: int) -> None:
    ctx = cast(RequestContext, SimpleNamespace(now=f"2026-01-01T{now}Z"))
    metadata: dict[str, Any] = {"deletionTimestamp": "2026-01-01T00:00:30Z", "deletionGracePeriodSeconds": 30}
    lifecycle.shorten_deletion(ctx, metadata, grace)
    assert metadata == {"deletionTimestamp": f"2026-01-01T{end}Z", "deletionGracePeriodSeconds": left}
