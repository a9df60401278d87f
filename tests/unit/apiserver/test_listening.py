"""One port at several of a host's addresses."""

from __future__ import annotations

import errno
import re
import socket
from contextlib import ExitStack
from typing import Any

import pytest

from kubecore.apiserver.transport.front_door import listeners

FIRST, SECOND = "127.21.9.1", "127.21.9.2"


def test_a_port_that_is_free_at_one_address_and_not_at_the_other_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    create, taken = socket.create_server, []
    with ExitStack() as held:

        def create_server(address: tuple[str, int], **options: Any) -> socket.socket:
            made = create(address, **options)
            if not taken:
                taken.append(made.getsockname()[1])
                held.enter_context(create((SECOND, taken[0])))
            return made

        monkeypatch.setattr(socket, "create_server", create_server)
        made = [held.enter_context(one) for one in listeners([FIRST, SECOND])]
        (first, port), (second, same) = [one.getsockname() for one in made]
    assert (first, second, same) == (FIRST, SECOND, port)
    assert port not in taken


def test_an_address_that_the_host_has_not_is_named() -> None:
    named = re.escape("cannot listen on 192.0.2.1:")
    with pytest.raises(OSError, match=named) as refused:
        listeners([FIRST, "192.0.2.1"])
    assert refused.value.errno == errno.EADDRNOTAVAIL
