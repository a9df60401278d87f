"""Names of images: `[HOST[:PORT]/]PATH[:TAG][@DIGEST]` (distribution's grammar, with Docker's short names)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9-]+)*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
_PATH = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_DEFAULT_HOST, _DEFAULT_FOLDER, _DEFAULT_TAG = "docker.io", "library/", "latest"


class InvalidReference(ValueError):
    """The text is Kubernetes' own."""


@dataclass(frozen=True, slots=True)
class Reference:
    """`tag` is "" where there is a digest only."""

    host: str
    path: str
    tag: str
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Raises InvalidReference."""
        name, _, digest = text.partition("@")
        if digest and not DIGEST.fullmatch(digest):
            raise InvalidReference(_invalid(text))
        host, path = _split_host(name)
        path, colon, tag = path.partition(":")
        if not _PATH.fullmatch(path) or (colon and not _TAG.fullmatch(tag)) or not _HOST.fullmatch(host):
            raise InvalidReference(_invalid(text))
        if host == _DEFAULT_HOST and "/" not in path:
            path = _DEFAULT_FOLDER + path
        return cls(host, path, tag or ("" if digest else _DEFAULT_TAG), digest)

    @property
    def repository(self) -> str:
        return f"{self.host}/{self.path}"

    @property
    def short(self) -> str:
        """As people write it: without what is meant when it is missing, but the tag."""
        full = str(self)
        if self.host != _DEFAULT_HOST:
            return full
        return full.removeprefix(f"{_DEFAULT_HOST}/").removeprefix(_DEFAULT_FOLDER)

    @property
    def wanted(self) -> str:
        """What a registry is asked for: the digest, before the tag."""
        return self.digest or self.tag

    def __str__(self) -> str:
        """In full."""
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")


def _split_host(name: str) -> tuple[str, str]:
    """The first part is a host if it looks like one: with a dot, a port, or the one that is known without."""
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        host = "docker.io" if first == "index.docker.io" else first
        return host, rest
    return _DEFAULT_HOST, name


def _invalid(text: str) -> str:
    return f'couldn\'t parse image name "{text}": invalid reference format'
