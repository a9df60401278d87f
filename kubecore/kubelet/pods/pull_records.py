"""Who may have an image that is on the node: where it was pulled with the credentials of a Secret, pods that have them.

After upstream `pkg/kubelet/images/pullmanager` (KEP-2535): a file for each image that was pulled (ImagePulledRecord),
and one for each pull under way, which outlives a kubelet that is killed meanwhile.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from kubecore.api import meta
from kubecore.clock import Clock
from kubecore.images.credentials import Credentials
from kubecore.images.references import InvalidReference, Reference
from kubecore.whole_file import write_whole

Object = dict[str, Any]

NEVER, NOT_PRELOADED, NOT_LISTED, ALWAYS = (
    "NeverVerify",
    "NeverVerifyPreloadedImages",
    "NeverVerifyAllowlistedImages",
    "AlwaysVerify",
)
POLICIES = (NEVER, NOT_PRELOADED, NOT_LISTED, ALWAYS)
_API_VERSION = "kubelet.config.k8s.io/v1beta1"
# What the secrets of a record are kept to that are learned while they are compared.
_MOST_SECRETS = 100


@dataclass(frozen=True, slots=True)
class Verification:
    """`imagePullCredentialsVerificationPolicy`, and the `preloadedImagesVerificationAllowlist` that one of them has."""

    policy: str = NOT_PRELOADED
    allowed: tuple[str, ...] = ()

    def wanted(self, reference: Reference, *, pulled: bool) -> bool:
        """`pulled`: by a kubelet, and not brought here otherwise."""
        if self.policy == NOT_LISTED:
            return not any(_is_of(reference.repository, pattern) for pattern in self.allowed)
        return self.policy == ALWAYS or (self.policy == NOT_PRELOADED and pulled)


def _is_of(repository: str, pattern: str) -> bool:
    """`repository`: in full, as patterns name them."""
    return repository.startswith(pattern[:-1]) if pattern.endswith("/*") else repository == pattern


def pattern_problem(pattern: str) -> str:
    """What is wrong with one of the allowlist, "" for nothing."""
    if pattern != pattern.strip():
        return f"leading/trailing spaces are not allowed: {pattern}"
    plain = pattern[:-1] if pattern.endswith("/*") else pattern
    if not plain:
        return f"the supplied pattern is too short: {pattern}"
    if "*" in plain:
        return f"not a valid wildcard pattern, only patterns ending with '/*' are allowed: {pattern}"
    if plain != pattern:
        return "at least registry hostname is required" if len(plain) == 1 else ""
    try:
        reference = Reference.parse(plain)
    except InvalidReference as error:
        return f"failed to parse as an image name: {error}"
    return "" if reference.repository == plain else f"neither tag nor digest is accepted in an image reference: {plain}"


class Mark:
    """That an image is being pulled. Whoever pulls it holds this; what is left behind unheld tells of a pull of which
    nobody knows how it ended."""

    def __init__(self, file: Path, name: str) -> None:
        """Raises OSError."""
        self._path = file
        while not file.exists():  # before it is held somebody may take it for one that was left
            write_whole(file, name.encode(), mode=0o600)
            self._held = file.open("rb")
            fcntl.flock(self._held, fcntl.LOCK_SH)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def remove(self) -> None:
        """How it ended is known."""
        self._path.unlink(missing_ok=True)


class PullRecords:
    """In a `folder`, which kubelets may share as they do the images. Waits for the disk: not for the event loop."""

    def __init__(self, folder: Path, clock: Clock, verification: Verification) -> None:
        self._pulled, self._pulling = folder / "pulled", folder / "pulling"
        self._clock = clock
        self._verification = verification

    # ---- while they are pulled

    def begin(self, reference: Reference) -> Mark:
        """Raises OSError."""
        self._pulling.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = _file(self._pulling, str(reference))
        return Mark(file.with_name(f"{file.name}-{secrets.token_hex(4)}"), str(reference))

    def interrupted(self) -> list[str]:
        """Names of what was being pulled when a kubelet was killed; nobody knows by whom."""
        found = (_name_left(file) for file in list(self._pulling.glob("[0-9a-f]*")))
        return list(dict.fromkeys(name for name in found if name))

    def give_up(self, name: str, image_id: str) -> None:
        """Of such a one the image is there, or is not ("")."""
        if image_id:
            with suppress(ValueError), self._alone():  # one that cannot be read lets nobody have it, either
                if self._read(image_id) is None:
                    self._write({"imageRef": image_id, "credentialMapping": {}})
        for file in self._marks(name):
            if _name_left(file):
                file.unlink(missing_ok=True)

    def _marks(self, name: str) -> list[Path]:
        return list(self._pulling.glob(f"{_file(self._pulling, name).name}-*"))

    def note(self, image_id: str, reference: Reference, who: Credentials | None) -> None:
        """It was pulled: by `who`, or by nobody in particular. Raises OSError."""
        with self._alone():
            record = None
            with suppress(ValueError):
                record = self._read(image_id)
            record = record or {"imageRef": image_id, "credentialMapping": {}}
            known = record["credentialMapping"].setdefault(reference.repository, {})
            if who is None or who.origin is None:
                known.clear()
                known["nodePodsAccessible"] = True
            elif not known.get("nodePodsAccessible"):
                _add(known, who)
            self._write(record)

    # ---- once they are there

    def allows(self, image_id: str, reference: Reference, known: Sequence[Credentials]) -> bool:
        """Whether a pod with these credentials may have it as it is."""
        try:
            record, readable = self._read(image_id), True
        except ValueError:
            record, readable = None, False
        pulled = record is not None or not readable or bool(self._marks(str(reference)))
        if not self._verification.wanted(reference, pulled=pulled):
            return True
        told = record["credentialMapping"].get(reference.repository, {}) if record is not None else {}
        if told.get("nodePodsAccessible"):
            return True
        secrets = told.get("kubernetesSecrets", [])
        for who in known:
            if who.origin is not None and any(_same(one, who) for one in secrets):
                if len(secrets) < _MOST_SECRETS and _add(told, who):
                    with suppress(OSError):
                        self.note(image_id, reference, who)
                return True
        return False

    def keep(self, image_ids: Collection[str], began: datetime) -> None:
        """Those were all that there were then: what is known of others goes."""
        names = {_file(self._pulled, one).name for one in image_ids}
        for file in list(self._pulled.glob("[0-9a-f]*")):
            if file.name not in names and _time(file) < began.replace(microsecond=0):
                file.unlink(missing_ok=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Whoever reads a record to write it anew, of all kubelets. Raises OSError."""
        self._pulled.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = os.open(self._pulled, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _read(self, image_id: str) -> Object | None:
        """Raises ValueError for what is none."""
        try:
            found = json.loads(_file(self._pulled, image_id).read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ValueError(str(error)) from error
        if not isinstance(found, dict) or not isinstance(found.get("credentialMapping"), dict):
            raise ValueError(f"the record of image {image_id} is none")
        return found

    def _write(self, record: Object) -> None:
        head = {"kind": "ImagePulledRecord", "apiVersion": _API_VERSION}
        whole = {**head, **record, "lastUpdatedTime": meta.format_time(self._clock.now())}
        write_whole(_file(self._pulled, record["imageRef"]), json.dumps(whole).encode(), mode=0o600)


def _name_left(mark: Path) -> str:
    """Whose pulling has left this mark behind; "" if it is held, or gone."""
    try:
        with mark.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file.read().decode()
    except OSError:
        return ""


def _file(folder: Path, name: str) -> Path:
    return folder / hashlib.sha256(name.encode()).hexdigest()


def _time(record: Path) -> datetime:
    """When it was written. One that cannot be read is old."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return meta.parse_time(json.loads(record.read_bytes())["lastUpdatedTime"])
    return datetime.min.replace(tzinfo=UTC)


def _same(secret: Object, who: Credentials) -> bool:
    """It is this Secret, whatever it says now, or says the same."""
    return _of(secret) == who.origin or secret.get("credentialHash") == who.fingerprint


def _of(secret: Object) -> tuple[Any, ...]:
    return secret.get("uid"), secret.get("namespace"), secret.get("name")


def _add(told: Object, who: Credentials) -> bool:
    """Whether that is news."""
    if who.origin is None:
        return False
    uid, namespace, name = who.origin
    new = {"uid": uid, "namespace": namespace, "name": name, "credentialHash": who.fingerprint}
    secrets = told.get("kubernetesSecrets", [])
    if new in secrets:
        return False
    told["kubernetesSecrets"] = _sorted([*(one for one in secrets if _of(one) != who.origin), new])
    return True


def _sorted(secrets: Iterable[Object]) -> list[Object]:
    return sorted(secrets, key=lambda one: (one["namespace"], one["name"], one["uid"]))
