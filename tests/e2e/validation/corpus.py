"""Objects of every built-in kind, least and whole, and the requests made from them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import NameOID

from tests.e2e.validation.mutations import Mutations, Schemas, metadata_mutations
from tests.e2e.validation.odd_values import odd_values

JSON = dict[str, Any]

_OBJECTS = Path(__file__).parent / "objects"


@dataclass(frozen=True, slots=True)
class Case:
    """One request; `name` says the object and what was done to it."""

    name: str
    operation: str
    obj: JSON
    old: JSON | None = None

    @property
    def kind(self) -> str:
        return f"{self.obj['kind']}.{self.obj['apiVersion'].rpartition('/')[0]}".rstrip(".")


@cache
def _made_once() -> dict[str, str]:
    """Values that must be real: a certificate and a certificate request."""
    key = ed25519.Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "someone")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, None)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2046, 1, 1, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, None)
    )
    pem = serialization.Encoding.PEM
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return {
        "@REQUEST@": base64.b64encode(request.public_bytes(pem)).decode(),
        "@CERTIFICATE@": certificate.public_bytes(pem).decode(),
        "@ENCODED@": base64.b64encode(certificate.public_bytes(pem)).decode(),
        "@PUBLIC@": base64.b64encode(public).decode(),
        "@FINGERPRINT@": certificate.fingerprint(hashes.SHA256()).hex(),
    }


def objects() -> list[JSON]:
    """All base objects; the first one of a kind is the least that is valid."""
    found: list[JSON] = []
    for path in sorted(_OBJECTS.glob("*.yaml")):
        text = path.read_text()
        for placeholder, value in _made_once().items():
            text = text.replace(f'"{placeholder}"', json.dumps(value))
        found += yaml.load_all(text, Loader=_Loader)
    return found


class _Loader(yaml.SafeLoader):
    """Timestamps stay text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag != "tag:yaml.org,2002:timestamp"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def mutations(bases: Iterable[JSON]) -> Mutations:
    return Mutations(Schemas(), _examples(bases))


def _examples(bases: Iterable[JSON]) -> dict[str, list[Any]]:
    """Values by the name of the field they were seen in."""
    found: dict[str, dict[str, Any]] = {}

    def walk(value: Any, name: str) -> None:
        if isinstance(value, dict):
            for key, below in value.items():
                if key not in ("metadata", "data", "binaryData", "trustBundle", "request"):
                    walk(below, key)
        elif isinstance(value, list):
            for below in value:
                walk(below, name)
        else:
            found.setdefault(name, {})[json.dumps(value)] = value

    for base in bases:
        walk(base, "")
    seen = {name: sorted(values.values(), key=_plainness)[:8] for name, values in found.items()}
    made = _made_once()
    for name, odd in odd_values(certificate=made["@CERTIFICATE@"], request=made["@REQUEST@"]).items():
        seen[name] = [*seen.get(name, ()), *odd]
    return seen


def _plainness(value: Any) -> tuple[int, str]:
    """Short and plain values come first: they are what fits in most places."""
    shown = json.dumps(value)
    return len(shown) + 100 * any(char in shown for char in ".:/$*@'()"), shown


def creates(base: JSON, mutated: Mutations, *, first: bool) -> Iterator[Case]:
    """`first` adds what is said about metadata, which is enough to do once a kind."""
    name = f"{base['kind']}/{base['metadata']['name']}"
    yield Case(name, "create", base)
    for what, obj in mutated.of(base):
        yield Case(f"{name} {what}", "create", obj)
    if first:
        for what, obj in metadata_mutations(base, update=False):
            yield Case(f"{name} {what}", "create", obj)


def updates(stored: JSON, mutated: Mutations, *, first: bool) -> Iterator[Case]:
    name = f"{stored['kind']}/{stored['metadata']['name']}"
    yield Case(f"{name} unchanged", "update", stored, stored)
    for what, obj in mutated.of(stored):
        yield Case(f"{name} {what}", "update", obj, stored)
    if first:
        for what, obj in metadata_mutations(stored, update=True):
            yield Case(f"{name} {what}", "update", obj, stored)


def subresource_updates(stored: JSON, mutated: Mutations, subresource: str) -> Iterator[Case]:
    """Of what is written through `status` or `approval`: changes of the status; through others: of the rest."""
    name = f"{stored['kind']}/{stored['metadata']['name']}"
    for what, obj in mutated.of(stored, below="status" if subresource in ("status", "approval") else ""):
        yield Case(f"{name} {what}", subresource, obj, stored)


def scales(parent: JSON, scale: JSON, mutated: Mutations) -> Iterator[Case]:
    """Of what is written to the scale of an object."""
    name = f"{parent['kind']}/{parent['metadata']['name']} scale"
    changes = [*mutated.of(scale), *mutated.of(scale, below="status"), *metadata_mutations(scale, update=True)]
    yield Case(f"{name} unchanged", "scale", scale, parent)
    for what, obj in changes:
        yield Case(f"{name} {what}", "scale", obj, parent)


def is_asked(base: JSON, subresource: str) -> bool:
    """What changes a pod that runs is asked of the least pod and of one that is scheduled: others have thousands of
    fields that neither `resize` nor `ephemeralcontainers` lets be changed."""
    changes_pods = subresource in ("resize", "ephemeralcontainers")
    return not changes_pods or base["metadata"]["name"] in ("least", "scheduled")
