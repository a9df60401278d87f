"""Content is known by its hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

CHUNK_BYTES = 1024 * 1024


class WrongDigest(Exception):
    """Content is not what its digest says; the text is for people."""


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def chunks(file: BinaryIO) -> Iterator[bytes]:
    while data := file.read(CHUNK_BYTES):
        yield data


def copy_checked(source: Iterable[bytes], target: BinaryIO, digest: str) -> int:
    """Returns the size. Raises WrongDigest once all of it has been written."""
    found, size = hashlib.sha256(), 0
    for data in source:
        found.update(data)
        size += len(data)
        target.write(data)
    check(f"sha256:{found.hexdigest()}", digest)
    return size


def check(found: str, wanted: str) -> None:
    if found != wanted:
        raise WrongDigest(f"failed to verify content: unexpected digest {found}, expected {wanted}")
