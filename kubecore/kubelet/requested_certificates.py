"""Certificates of a kubelet that the cluster signs, to serve with (`serverTLSBootstrap`) or to be known by
(`rotateCertificates`): asked for by a CertificateSigningRequest, which somebody has to approve, kept on the disk, and
asked for anew in good time.

After upstream `pkg/kubelet/certificate/kubelet.go` and client-go `util/certificate/certificate_manager.go`.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import random
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kubecore import _native
from kubecore.api import meta
from kubecore.api.errors import StatusError
from kubecore.client.informer import SharedInformer
from kubecore.kubelet.certificate_origins import of_another_cluster
from kubecore.whole_file import write_whole

if TYPE_CHECKING:
    from cryptography import x509

    from kubecore.client.client import Client
    from kubecore.clock import Clock

log = logging.getLogger(__name__)

Object = dict[str, Any]

REQUESTS = "certificatesigningrequests.certificates.k8s.io"
_PATIENCE_SECONDS = 15 * 60.0
_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 2.0, 32.0
# A certificate is replaced when so much of its life is over.
_EARLIEST_SHARE, _LATEST_SHARE = 0.7, 0.9


class NotSigned(Exception):
    """The text says why."""


class Pair(NamedTuple):
    """PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a certificate is for. `word`: in the names of its files."""

    signer: str
    usage: str
    word: str

    @property
    def current(self) -> str:
        """The file that leads to the newest."""
        return f"kubelet-{self.word}-current.pem"


SERVING = Purpose("kubernetes.io/kubelet-serving", "server auth", "server")
CLIENT = Purpose("kubernetes.io/kube-apiserver-client-kubelet", "client auth", "client")


@dataclass(frozen=True, slots=True)
class Names:
    """Whom a certificate is for; a client has no `addresses`."""

    node: str
    addresses: tuple[str, ...] = ()

    def are_in(self, certificate: x509.Certificate) -> bool:
        from cryptography import x509
        from cryptography.x509.oid import NameOID

        common = [one.value for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        if not self.addresses:
            return common == [f"system:node:{self.node}"]
        try:
            named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return False
        addresses = {str(one) for one in named.get_values_for_type(x509.IPAddress)}
        hosts = named.get_values_for_type(x509.DNSName)
        return common == [f"system:node:{self.node}"] and self.node in hosts and addresses.issuperset(self.addresses)


class RequestedCertificates:
    """`run` keeps a certificate until it is cancelled. `changed` is set when there is another one, the first included;
    who takes it clears it."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        directory: Path,
        names: Names,
        purpose: Purpose = SERVING,
        *,
        first: Pair | None = None,
        authorities: bytes = b"",
    ) -> None:
        """`first`: what is used while there is none that was asked for, which is at once then. `authorities`: those of
        the cluster that are known, PEM."""
        self._purpose = purpose
        self._first = first
        self._authorities = authorities
        self._client = client
        self._clock = clock
        self._directory = directory
        self._names = names
        self.changed = asyncio.Event()
        self.current: Pair | None = None
        """None while there is none at all. The one to begin with is there at once."""
        stored = self._stored()
        self._replace_at = self._take(stored)
        if stored is None and first is not None:
            self._show(first)

    async def run(self) -> None:
        replace_at, failures = self._replace_at, 0
        while True:
            await self._clock.sleep(max((replace_at - self._clock.now()).total_seconds(), 0.0))
            try:
                pair = await self.request()
            except (NotSigned, StatusError, OSError) as error:
                log.warning("node %s has no new certificate for %s: %s", self._names.node, self._purpose.usage, error)
                await self._clock.sleep(min(_FIRST_RETRY_SECONDS * 2.0**failures, _LONGEST_RETRY_SECONDS))
                failures += 1
            else:
                failures = 0
                replace_at = self._take(pair)

    def _take(self, pair: Pair | None) -> datetime:
        """Show it from now on. Returns when it is to be replaced."""
        if pair is None:
            return self._clock.now()
        from cryptography import x509

        self._show(pair)
        leaf = x509.load_pem_x509_certificate(pair.certificate)
        life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
        share = _EARLIEST_SHARE + (_LATEST_SHARE - _EARLIEST_SHARE) * random.random()
        return leaf.not_valid_before_utc + life * share

    def _show(self, pair: Pair) -> None:
        self.current = pair
        self.changed.set()

    def _stored(self) -> Pair | None:
        """What a former kubelet was given, if it is still good. That of a former cluster would lock the node out."""
        try:
            text = (self._directory / self._purpose.current).read_bytes()
            pair = Pair(text, text)
            self._check(pair)
        except (OSError, NotSigned):
            return None
        given = self._first.certificate if self._first is not None else b""
        if of_another_cluster(text, given, self._authorities, self._clock.now()):
            told = "node %s asks for a certificate anew: what is in %s is of another cluster, or of a former authority"
            log.warning(told, self._names.node, self._directory)
            return None
        return pair

    def _check(self, pair: Pair) -> None:
        """Raises NotSigned: whatever signs may sign anything."""
        from cryptography import x509

        strange = (x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
        try:
            _native.ServingCertificate(*pair)  # as the server does, which looks at the key, too
            leaf = x509.load_pem_x509_certificate(pair.certificate)
            named = self._names.are_in(leaf)
        except (ValueError, *strange) as error:
            raise NotSigned(f"what was signed is no certificate of its key: {error}") from error
        if not named:
            raise NotSigned("what was signed is not for the names that were asked for")
        if leaf.not_valid_after_utc <= self._clock.now():
            raise NotSigned(f"what was signed has expired at {leaf.not_valid_after_utc}")

    # ---- asking

    async def request(self, *, patience_seconds: float = _PATIENCE_SECONDS) -> Pair:
        """Ask once, and keep what is signed. Raises NotSigned, StatusError, OSError."""
        request, key = self._made()
        spec = {
            "request": base64.b64encode(request).decode(),
            "signerName": self._purpose.signer,
            "usages": ["digital signature", self._purpose.usage],
        }
        kind = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest"}
        asked = await self._client.create(REQUESTS, {**kind, "metadata": {"generateName": "csr-"}, "spec": spec})
        signed = await self._signed(meta.name(asked), patience_seconds)
        pair = Pair(signed, key)
        self._check(pair)
        self._store(pair)
        return pair

    def _made(self) -> tuple[bytes, bytes]:
        """The request and its key, PEM."""
        import ipaddress

        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID

        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
                x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{self._names.node}"),
            ]
        )
        builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
        if self._names.addresses:
            names: list[x509.GeneralName] = [x509.DNSName(self._names.node)]
            names += [x509.IPAddress(ipaddress.ip_address(address)) for address in self._names.addresses]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        request = builder.sign(key, hashes.SHA256())
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return request.public_bytes(serialization.Encoding.PEM), private

    async def _signed(self, name: str, patience_seconds: float) -> bytes:
        """The certificate, once somebody has approved the request. Raises NotSigned."""
        answer: asyncio.Future[Object | None] = asyncio.get_running_loop().create_future()

        def look(request: Object | None) -> None:
            if not answer.done() and (request is None or _is_answered(request)):
                answer.set_result(request)

        informer = SharedInformer(self._client, self._clock, REQUESTS, field_selector=f"metadata.name={name}")
        informer.add_handler(look, lambda _, new: look(new), lambda _: look(None))
        following = asyncio.create_task(informer.run(), name=f"kubelet certificate request {name}")
        try:
            async with self._clock.timeout(patience_seconds):
                request = await answer
        except TimeoutError:
            raise NotSigned(f"certificate signing request {name} was not answered in time") from None
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
        if request is None:
            raise NotSigned(f"certificate signing request {name} was deleted")
        for kind, words in (("Denied", "is denied"), ("Failed", "failed")):
            if refused := meta.condition(request, kind):
                told = f"reason: {refused.get('reason', '')}, message: {refused.get('message', '')}"
                raise NotSigned(f"certificate signing request {name} {words}, {told}")
        try:
            return base64.b64decode(request["status"]["certificate"])
        except ValueError as error:
            raise NotSigned(f"certificate signing request {name} has a certificate that is none: {error}") from error

    def _store(self, pair: Pair) -> None:
        """Under a name of its own, to which the current one leads. Raises OSError."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._directory / self._clock.now().strftime(f"kubelet-{self._purpose.word}-%Y-%m-%d-%H-%M-%S.pem")
        write_whole(path, pair.certificate + pair.key, mode=0o600)
        fresh = path.with_name(f".{self._purpose.current}")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(path.name)
        current = self._directory / self._purpose.current
        former = current.resolve() if current.is_symlink() else None
        fresh.replace(current)
        if former is not None and former.name != path.name:
            former.unlink(missing_ok=True)


def _is_answered(request: Object) -> bool:
    refused = any(meta.condition(request, kind) for kind in ("Denied", "Failed"))
    return refused or bool((request.get("status") or {}).get("certificate"))
