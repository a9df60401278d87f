"""Connections that the forwarder makes in its clients' names: the answers must stay on this host.

nf_tables marks packets that are for a socket with somebody else's address, and a routing rule keeps what is marked.
(Linux `Documentation/networking/tproxy.rst`.)
"""

from __future__ import annotations

import logging
import re
import zlib
from contextlib import suppress

from kubecore.netlink import Netlink
from kubecore.proxy.data_plane import ModeUnavailable
from kubecore.proxy.nftables.messages import Connection
from kubecore.proxy.nftables.program import find_nft, run_nft
from kubecore.proxy.nftables.succession import remove_left

log = logging.getLogger(__name__)

_FIRST_MARK, _MARKS = 0x6B000000, 1 << 16


def of_node(table: str, index: int) -> BorrowedAddresses:
    """Those of one node of the cluster whose tables begin so: by them pods see the clients of its host ports."""
    return BorrowedAddresses(f"{table}-node{index}")


def sweep_nodes(table: str, *, beyond: int) -> None:
    """What a killed run with more nodes than `beyond` has left of the others."""
    with suppress(OSError):
        connection = Connection()
        try:
            found = [re.fullmatch(re.escape(table) + r"-node(\d+)", name) for name in connection.tables()]
        finally:
            connection.close()
        for index in {int(one[1]) for one in found if one is not None}:
            if index >= beyond:
                of_node(table, index).sweep()


class BorrowedAddresses:
    """Of one cluster, whose `table` it is named for. The host is prepared when the first Service needs it."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._mark = _FIRST_MARK + zlib.crc32(table.encode()) % _MARKS
        self._works: bool | None = None

    def allowed(self) -> bool:
        """Whether the host keeps the answers; prepares it at the first call, which starts a program."""
        if self._works is None:
            try:
                self._prepare()
                self._works = True
            except (OSError, ModeUnavailable) as error:
                log.warning(
                    "host ports and Services with traffic policy Local do not show pods their clients: %s", error
                )
                self._delete_table()
                self._works = False
        return self._works

    def restore(self) -> bool:
        """Whether somebody else had removed the rules, which are there again. Raises OSError."""
        if not self._works:
            return False
        connection = Connection()
        try:
            if connection.table_is_awake(self._table):
                return False
        finally:
            connection.close()
        try:
            self._make_table()
        except ModeUnavailable as error:
            raise OSError(str(error)) from error
        return True

    def sweep(self) -> None:
        """What a killed run has left, be it of another mode, leads nobody any more."""
        with suppress(ModeUnavailable):
            remove_left(self._table, but=self._table if self._works else "")
        if not self._works:
            with suppress(OSError), Netlink() as netlink:
                netlink.release_marked(self._mark)

    def close(self) -> None:
        if not self._works:
            return
        self._works = None
        self._delete_table()
        with Netlink() as netlink, suppress(OSError):
            netlink.release_marked(self._mark)

    def _delete_table(self) -> None:
        with suppress(ModeUnavailable):
            run_nft(find_nft(), f"delete table inet {self._table}\n")

    def _prepare(self) -> None:
        self._make_table()
        with Netlink() as netlink:
            netlink.keep_marked(self._mark)

    def _make_table(self) -> None:
        rule = f"meta l4proto {{ tcp, udp }} socket transparent 1 meta mark set {self._mark:#x}"
        lines = [
            f"table inet {self._table} {{ }}",
            f"delete table inet {self._table}",
            f"table inet {self._table} {{",
            f"chain prerouting {{ type filter hook prerouting priority -150; {rule}; }}",
            "}\n",
        ]
        run_nft(find_nft(), "\n".join(lines))
