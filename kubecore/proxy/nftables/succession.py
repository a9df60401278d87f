"""How a table takes the place of one that a killed run has left, which leads connections until then.

A table has one of two names. The new one gets that which nothing in force has, asleep: its chains are not consulted
until it is whole. Then it is woken and the old one removed in one transaction, so that no packet finds none or both.
"""

from __future__ import annotations

from collections.abc import Callable

from kubecore.proxy.data_plane import ModeUnavailable
from kubecore.proxy.nftables.messages import Batch, Connection
from kubecore.proxy.nftables.program import find_nft, run_nft


def names(table: str) -> tuple[str, str]:
    return table, f"{table}-next"


class Succession:
    """`name` is what the table is called, which `text` makes anew by the name that it is given (for `nft -f`).

    Raises ModeUnavailable where the kernel, `nft` or the rights for it are missing."""

    def __init__(self, table: str, text: Callable[[str], str]) -> None:
        self._names = names(table)
        self._text = text
        self._nft = find_nft()
        self.name = table
        self.begin()

    def begin(self) -> None:
        """The next table is there, empty. Raises ModeUnavailable."""
        try:
            connection = Connection()
            try:
                first, second = self._names
                self.name = second if connection.table_is_awake(first) else first
            finally:
                connection.close()
        except OSError as error:
            raise ModeUnavailable(f"nf_tables: {error.strerror}") from error
        run_nft(self._nft, self._text(self.name))

    def take_over(self, connection: Connection) -> None:
        """The table is in force, and no other of ours. Raises OSError: nothing has changed then."""
        batch = Batch(self.name)
        if not connection.table_is_awake(self.name):
            batch.wake_table()
        for name in self._names:
            if name != self.name and connection.table_is_awake(name) is not None:
                batch.delete_table(name)
        connection.run(batch)

    def close(self) -> None:
        """No table is left. Raises ModeUnavailable."""
        remove_left(self._names[0])


def remove_left(table: str, *, but: str = "") -> None:
    """Of the tables that one of this name may have been. Raises ModeUnavailable."""
    try:
        connection = Connection()
        try:
            batch = Batch(table)
            for name in names(table):
                if name != but and connection.table_is_awake(name) is not None:
                    batch.delete_table(name)
            connection.run(batch)
        finally:
            connection.close()
    except OSError as error:
        raise ModeUnavailable(f"nf_tables: {error.strerror}") from error
