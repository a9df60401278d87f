"""Reads an EncryptionConfiguration, as `--encryption-provider-config` takes it: which objects nobody reads in the file.

After upstream k8s.io/apiserver pkg/apis/apiserver/validation/validation_encryption.go.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubecore.api.configuration_file import InvalidConfiguration, read
from kubecore.api.errors import Cause, FieldError, aggregated
from kubecore.api.quoting import quoted
from kubecore.apiserver.reload_metrics import ReloadMetrics
from kubecore.apiserver.storage.interface import DataDirError, StorageError
from kubecore.followed_file import FollowedFile

if TYPE_CHECKING:
    from kubecore.apiserver.storage.lmdb import LMDBStorage
    from kubecore.clock import Clock

JSON = dict[str, Any]
# A prefix of keys, and its providers in order: kind, and the names of keys with their secrets.
Rule = tuple[str, list[tuple[str, list[tuple[str, bytes]]]]]

KIND = "EncryptionConfiguration"
_KEYS = {"keys": [{"name": str, "secret": str}]}
_KMS = {"apiVersion": str, "name": str, "cachesize": int, "endpoint": str, "timeout": str}
_FIELDS = {
    "resources": [
        {
            "resources": [str],
            "providers": [{"aesgcm": _KEYS, "aescbc": _KEYS, "secretbox": _KEYS, "identity": dict, "kms": _KMS}],
        }
    ]
}
_SIZES = {"aesgcm": (16, 24, 32), "aescbc": (16, 24, 32), "secretbox": (32,)}
_NO_PROVIDER = "provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity"
_MANY = "more than one provider specified in a single element, should split into different list elements"
# What the store says of a value that it cannot read (`native/store/src/encryption.rs`).
_UNREAD = ("unable to decrypt: ", "no matching prefix found")
_OVERLAP = (
    "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be "
    "masked"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptionOptions:
    """The `--encryption-provider-config*` flags."""

    config_file: Path | None = None
    reload: bool = False
    """Whether another configuration is in force as soon as the file has it."""


class Sealing:
    """The rules of the configuration at the start, and what follows its file."""

    def __init__(self, options: EncryptionOptions, clock: Clock) -> None:
        """Raises InvalidConfiguration, OSError."""
        self._clock = clock
        self._given = options.config_file
        self._file = options.config_file if options.reload else None
        self._content = b"" if options.config_file is None else options.config_file.read_bytes()
        self.rules: list[Rule] = [] if options.config_file is None else _load_first(options.config_file, self._content)
        self._reloads = ReloadMetrics("encryption", "ALPHA", clock)
        self.metrics = self._reloads.metrics
        if self._content:
            self._reloads.applied(self._content)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Around reading at the start: that what is there cannot be decrypted is a matter of the flag. Raises
        DataDirError."""
        try:
            yield
        except StorageError as error:
            if not any(one in str(error) for one in _UNREAD):
                raise
            file = self._given
            advice = (
                "it was encrypted: --encryption-provider-config has to name the keys"
                if file is None
                else f'--encryption-provider-config "{file}" does not say how'
            )
            raise DataDirError(f"{error}; {advice}") from error

    def follow(self, storage: LMDBStorage) -> list[FollowedFile]:
        async def changed(content: bytes) -> None:
            await storage.encrypt(load(content.decode()))
            self._reloads.applied(content)

        if self._file is None:
            return []
        return [FollowedFile(self._file, self._clock, changed, known=self._content, told=self._reloads)]


def _load_first(file: Path, content: bytes) -> list[Rule]:
    """At the start, where nobody else says which file it is."""
    if not content:
        raise InvalidConfiguration(f'encryption provider configuration file "{file}" is empty')
    try:
        return load(content.decode())
    except (InvalidConfiguration, UnicodeDecodeError) as error:
        raise InvalidConfiguration(f'encryption provider configuration file "{file}": {error}') from error


def load(text: str) -> list[Rule]:
    """From YAML or JSON. Raises InvalidConfiguration."""
    given = read(text, KIND, {"apiserver.config.k8s.io/v1": _FIELDS, "v1": _FIELDS})
    entries = given.get("resources") or []
    causes = [cause for index, one in enumerate(entries) for cause in _problems(one, f"resources[{index}]")]
    if not entries:
        causes.append(FieldError.required("resources", "at least one resources is required"))
    if causes:
        told = [str(cause) for cause in causes]
        raise InvalidConfiguration(aggregated(told))
    _check_masked(entries)
    return [
        (_prefix(resource), [_provider(provider) for provider in one["providers"]])
        for one in entries
        for resource in one["resources"]
    ]


def _check_masked(entries: Sequence[JSON]) -> None:
    """Raises InvalidConfiguration for what a wider name before it leaves nothing to. Within one list that is told
    already."""
    wide: set[str] = set()
    for entry in entries:
        for resource in entry["resources"]:
            _, _, group = resource.partition(".")
            for name in (f"*.{group}", "*.*"):
                if name in wide:
                    shown = resource if group else resource.removesuffix(".")
                    shown = "*." if shown == "*" else shown
                    raise InvalidConfiguration(f"resource {quoted(shown)} is masked by earlier rule {quoted(name)}")
            if resource.startswith("*."):
                wide.add(resource)


def _prefix(resource: str) -> str:
    """`secrets` → `/registry/core/secrets/`, `*.apps` → `/registry/apps/`, `*.*` → `/registry/`."""
    plural, _, group = resource.partition(".")
    if group == "*":
        return "/registry/"
    root = f"/registry/{group or 'core'}/"
    return root if plural == "*" else f"{root}{plural}/"


def _provider(provider: JSON) -> tuple[str, list[tuple[str, bytes]]]:
    [(kind, settings)] = [(kind, one or {}) for kind, one in provider.items()]
    return kind, [(key["name"], base64.b64decode(key["secret"])) for key in settings.get("keys") or []]


def _problems(entry: JSON, path: str) -> list[Cause]:
    resources, providers = entry.get("resources") or [], entry.get("providers") or []
    causes: list[Cause] = []
    if not resources:
        causes.append(FieldError.required(f"{path}.resources", f"at least one {path}.resources is required"))
    causes += _overlaps(resources, f"{path}.resources")
    for index, resource in enumerate(resources):
        if why := _unusable(resource):
            causes.append(FieldError.invalid(f"{path}.resources[{index}]", resource, why))
    if not providers:
        causes.append(FieldError.required(f"{path}.providers", f"at least one {path}.providers is required"))
    for index, provider in enumerate(providers):
        causes += _provider_problems(provider, f"{path}.providers[{index}]")
    return causes


def _overlaps(resources: Sequence[str], path: str) -> list[Cause]:
    split = [one.partition(".")[::2] for one in resources]
    causes = []
    if len(set(split)) < len(split):
        causes.append(FieldError.invalid(path, list(resources), "the same resource cannot be specified multiple times"))
    wide = {group for plural, group in split if plural == "*"}
    if len(set(split)) > 1 and ("*" in wide or any(group in wide for plural, group in split if plural != "*")):
        causes.append(FieldError.invalid(path, list(resources), _OVERLAP))
    return causes


def _unusable(resource: str) -> str:
    """Why nothing can be encrypted by this name; "" where it can."""
    plural, _, group = resource.partition(".")
    if resource != resource.lower():
        return "resource name should not contain capital letters"
    if resource == "*":
        return "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"
    if resource in ("apiserveripinfo", "serviceipallocations", "servicenodeportallocations"):
        return "resources which do not have REST API/s cannot be encrypted"
    if group == "events.k8s.io":
        return (
            "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the "
            "config file"
        )
    if group == "extensions":
        return "'extensions' group has been removed and cannot be used for encryption"
    if group == "*" and plural != "*":
        return "encrypting the same resource across groups is not supported"
    return ""


def _provider_problems(provider: JSON, path: str) -> list[Cause]:
    kinds = list(provider)
    if len(kinds) != 1:
        return [FieldError.invalid(path, kinds, _MANY if kinds else _NO_PROVIDER)]
    [kind] = kinds
    if kind == "kms":
        return [FieldError.invalid(f"{path}.kms", "kms", "KMS plugins are not part of this version")]
    if kind == "identity":
        return []
    path = f"{path}.{kind}.keys"
    keys = (provider[kind] or {}).get("keys") or []
    if not keys:
        return [FieldError.required(path, "at least one keys is required")]
    return [cause for index, key in enumerate(keys) for cause in _key_problems(key, _SIZES[kind], f"{path}[{index}]")]


def _key_problems(key: JSON, sizes: Sequence[int], path: str) -> list[Cause]:
    causes = []
    name, secret = key.get("name") or "", key.get("secret") or ""
    if not name:
        causes.append(FieldError.required(f"{path}.name", "name is a mandatory field for a key"))
    if ":" in name:
        causes.append(FieldError.invalid(f"{path}.name", name, "must not contain ':'"))
    if not secret:
        return [*causes, FieldError.required(f"{path}.secret", "secret is a mandatory field for a key")]
    try:
        length = len(base64.b64decode(secret, validate=True))
    except (binascii.Error, ValueError):
        detail = "secrets must be base64 encoded"
        return [*causes, FieldError.invalid(f"{path}.secret", "REDACTED", detail)]
    if length not in sizes:
        expected = " ".join(map(str, sizes))
        detail = f"secret is not of the expected length, got {length}, expected one of [{expected}]"
        causes.append(FieldError.invalid(f"{path}.secret", "REDACTED", detail))
    return causes
