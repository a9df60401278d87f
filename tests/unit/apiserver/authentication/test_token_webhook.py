"""What a webhook says of a token counts for a while."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.apiserver.authentication.modules import Accepted, TokenRefused
from kubecore.apiserver.authentication.token_webhook import TokenWebhook
from kubecore.clock import VirtualClock

JSON = dict[str, Any]
KNOWN = {"authenticated": True, "user": {"username": "jane"}}


class Reviewer:
    """Says what it is told to say."""

    def __init__(self, status: JSON) -> None:
        self.status = status
        self.asked = 0

    async def review(self, review: JSON) -> JSON:
        self.asked += 1
        return {**review, "status": self.status}


def webhook(reviewer: Reviewer) -> TokenWebhook:
    return TokenWebhook(reviewer, VirtualClock(), version="v1", seconds=120.0, audiences=["api"])  # type: ignore[arg-type]


async def test_a_token_that_the_webhook_does_not_know_is_remembered() -> None:
    reviewer = Reviewer({"authenticated": False})
    asked = webhook(reviewer)
    assert [await asked.authenticate("t", ["api"]) for _ in range(2)] == [None, None]
    assert reviewer.asked == 1


async def test_what_the_webhook_could_not_tell_is_not_remembered() -> None:
    reviewer = Reviewer({"authenticated": False, "error": "the directory is away"})
    asked = webhook(reviewer)
    with pytest.raises(TokenRefused, match="the directory is away"):
        await asked.authenticate("t", ["api"])
    reviewer.status = KNOWN
    assert isinstance(await asked.authenticate("t", ["api"]), Accepted)
