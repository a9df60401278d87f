"""Compaction of the log in slices that fit between commits.

A worked example, compacting to revision 5 (`a@3←1` reads: revision 3 wrote key a, which had been at revision 1):

    log      a@1   b@2   a@3←1   c@4   b@5←2   c@6←4   d@7
    needed   {4}: the window (6, 7) replaces c@4, so a read at revision 5 must still find it
    deleted  a@1, b@2, a@3, b@5; the values of a@3 and b@5 live on in `current`
    kept     c@4 as the value that c@6 replaced, until a later compaction passes 6
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubecore.apiserver.storage import layout

_SCAN_SLICE = 4000
_DELETE_SLICE = 500


class Compaction:
    """One compaction to `revision`, resumable: scan the window for replaced values, mark, delete."""

    def __init__(self, revision: int, dbs: Mapping[bytes, Any]) -> None:
        self.revision = revision
        # Revisions at or below `revision` that the window replaces; the writer adds those it replaces meanwhile.
        self.needed: set[int] = set()
        # The mark is durable: reads below `revision` are refused from now on.
        self.marked = False
        self._dbs = dbs
        self._scanned = revision
        self._deleted = -1

    def slice(self, env: Any, newest: int) -> bool:
        """Does a little; True when nothing is left to do. Call it between transactions only."""
        if self._scanned < newest and not self.marked:
            with env.begin(buffers=True) as txn:
                self._scan(txn)
            return False
        with env.begin(write=True, buffers=True) as txn:
            if not self.marked:
                txn.put(layout.META_COMPACTED, layout.encode_number(self.revision), db=self._dbs[layout.META])
            done = self._delete(txn)
        self.marked = True
        return done

    def _scan(self, txn: Any) -> None:
        cursor = txn.cursor(db=self._dbs[layout.LOG])
        more = cursor.set_range(layout.encode_number(self._scanned + 1))
        for _ in range(_SCAN_SLICE):
            if not more:
                break
            previous = layout.decode_log_header(cursor.value()).previous
            if previous and previous <= self.revision:
                self.needed.add(previous)
            self._scanned = layout.decode_number(cursor.key())
            more = cursor.next()

    def _delete(self, txn: Any) -> bool:
        cursor = txn.cursor(db=self._dbs[layout.LOG])
        more = cursor.set_range(layout.encode_number(self._deleted + 1))
        for _ in range(_DELETE_SLICE):
            if not more:
                return True
            number = layout.decode_number(cursor.key())
            if number > self.revision:
                return True
            self._deleted = number
            # delete() leaves the cursor on the following record.
            more = cursor.next() if number in self.needed else cursor.delete() and bool(cursor.key())
        return not more
