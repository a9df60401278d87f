"""Who runs `kubecore up --pod-network rootless` in tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.unprivileged import UID, NoSuchUser, User, user

ROOTLESS = ("--pod-network", "rootless")
_NOBODY_ELSE = UID + 1
"""Whose processes are those of these tests alone, where root runs them."""


@contextmanager
def rootless_user() -> Iterator[User]:
    """Skips the test where the kernel does not let users have such a network."""
    try:
        with user(_NOBODY_ELSE) as found:
            asked = found.run(*found.program[:-2], "-c", "from kubecore import node_network as n; print(n.trouble())")
            if trouble := asked.stdout.strip():
                pytest.skip(trouble)
            yield found
    except NoSuchUser as error:
        pytest.skip(str(error))
