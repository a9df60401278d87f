"""Who runs `kubecore up --pod-network rootless` in tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.unprivileged import UID, NoSuchUser, User, user
from tests.support.unprivileged_cluster import Running, up

ROOTLESS = ("--pod-network", "rootless")
_SOMEBODY, NOBODY_ELSE = UID + 1, UID + 2


def trouble(found: User, module: str = "node_network") -> str:
    """Why that user cannot have what a module of kubecore is for; "" if it can be had."""
    asked = found.run(found.program[-3], "-c", f"from kubecore import {module} as asked; print(asked.trouble())")
    assert asked.returncode == 0, asked.stderr
    return asked.stdout.strip()


@contextmanager
def rootless_user(uid: int = _SOMEBODY) -> Iterator[User]:
    """Skips the test where the kernel does not let users have such a network."""
    try:
        with user(uid) as found:
            if why := trouble(found):
                pytest.skip(why)
            yield found
    except NoSuchUser as error:
        pytest.skip(str(error))


def fixtures(name: str, prepare: Callable[[Running], None] | None = None) -> tuple[Any, Any]:
    """What a module of tests calls `somebody` and `cluster`: who runs such a cluster, and that one."""

    @pytest.fixture(scope="module")
    def somebody() -> Iterator[User]:
        with rootless_user() as found:
            yield found

    @pytest.fixture(scope="module")
    def cluster(somebody: User) -> Iterator[Running]:
        with up(somebody, name, *ROOTLESS) as running:
            if prepare is not None:
                prepare(running)
            yield running

    return somebody, cluster
