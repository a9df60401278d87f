"""What a query says of the logs that are wanted."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kubecore.kubelet.serving.log_serving import options_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("query", "follows"),
    [
        ("", False),
        ("follow=0", False),
        ("follow=false", False),
        ("follow=False", False),
        ("follow", True),
        ("follow=", True),
        ("follow=1", True),
        ("follow=true", True),
        ("follow=yes", True),
        ("follow=f", True),
    ],
)
def test_all_is_true_but_what_is_called_false(query: str, follows: bool) -> None:
    assert options_of(query, NOW).options.follow is follows
