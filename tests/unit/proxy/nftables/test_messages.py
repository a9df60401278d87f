"""What is said to the kernel's nf_tables, and what it answers."""

from __future__ import annotations

import errno
from contextlib import closing

import pytest

from kubecore.proxy.nftables import messages
from kubecore.proxy.nftables.messages import Batch, Connection


def test_a_batch_that_the_kernel_refuses_as_a_whole_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of a part of netfilter that takes no batches: so answers a kernel without nf_tables.
    monkeypatch.setattr(messages, "_NFTABLES", 7)
    batch = Batch("kubecore-test")
    batch.make_table_anew()
    with pytest.raises(OSError) as refused, closing(Connection()) as connection:
        connection._socket.settimeout(30)
        connection.run(batch)
    assert refused.value.errno in (errno.EOPNOTSUPP, errno.EPERM)
