"""How extension API servers know that a request comes through us: a client certificate of a CA of its own, whose word
about users they take (ConfigMap kube-system/extension-apiserver-authentication).
"""

from __future__ import annotations

import base64
import ssl
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kubecore import _native
from kubecore.apiserver.authentication.options import AuthenticationOptions, RequestHeaderOptions
from kubecore.apiserver.authentication.pki import CertificateAuthority, KeyPair
from kubecore.server_trust import trusting

if TYPE_CHECKING:
    from kubecore.apiserver.aggregation.options import AggregationOptions
    from kubecore.apiserver.aggregation.remotes import Backend
    from kubecore.clock import Clock

_CA, _CLIENT = "front-proxy-ca", "front-proxy-client"


class Untrusted(Exception):
    """A bundle of CAs that cannot be read; the text says so."""


class FrontProxy:
    """The certificate that is shown, and what connections are set up by; made when first needed."""

    def __init__(
        self, directory: Path, clock: Clock, options: AggregationOptions, headers: RequestHeaderOptions
    ) -> None:
        self._options = options
        self._authority: CertificateAuthority | None = None
        if headers.client_ca_file is None:
            self._authority = CertificateAuthority(directory, clock, file=_CA, name=_CA)
        self.ca_file = directory / f"{_CA}.crt"
        self._pair: KeyPair | None = None
        self._native: dict[Backend, _native.BackendTls] = {}
        self._contexts: dict[Backend, ssl.SSLContext] = {}

    def believed(self, options: AuthenticationOptions) -> AuthenticationOptions:
        """With ourselves as a proxy whose word is taken, where no other is named: extension API servers read it."""
        if self._authority is None:
            return options
        own = RequestHeaderOptions(
            client_ca_file=self.ca_file,
            allowed_names=(_CLIENT,),
            username_headers=("X-Remote-User",),
            uid_headers=("X-Remote-Uid",),
            group_headers=("X-Remote-Group",),
            extra_headers_prefix=("X-Remote-Extra-",),
        )
        return replace(options, request_header=own)

    def files(self) -> list[Path]:
        """Those that may change while we run."""
        options = self._options
        return [one for one in (options.client_cert_file, options.client_key_file) if one is not None]

    def renew(self) -> None:
        """Another certificate, if ours is due."""
        if self._authority is not None and self._pair not in (None, self._authority.client(_CLIENT, _CLIENT)):
            self.forget()

    def forget(self) -> None:
        """The certificate has changed."""
        self._pair = None
        self._native, self._contexts = {}, {}

    def keep(self, backends: set[Backend]) -> None:
        """Forgets what belongs to none of these."""
        self._native = {one: tls for one, tls in self._native.items() if one in backends}
        self._contexts = {one: context for one, context in self._contexts.items() if one in backends}

    def tls(self, backend: Backend) -> _native.BackendTls:
        """For requests that are passed on in Rust. Raises Untrusted, OSError."""
        found = self._native.get(backend)
        if found is None:
            pair = self._shown()
            identity = None if pair is None else (pair.certificate, pair.key)
            try:
                ca_pem = None if backend.insecure else _authorities(backend) or None
                found = _native.BackendTls(identity=identity, ca_pem=ca_pem, named=True, system=not backend.insecure)
            except ValueError:
                raise Untrusted("unable to load root certificates: unable to parse bytes as PEM block") from None
            self._native[backend] = found
        return found

    def context(self, backend: Backend) -> ssl.SSLContext:
        """For our own requests. Raises Untrusted, OSError."""
        found = self._contexts.get(backend)
        if found is None:
            try:
                found = trusting("" if backend.insecure else _authorities(backend).decode("ascii"))
            except (ValueError, ssl.SSLError) as error:
                raise Untrusted(str(error)) from None
            if backend.insecure:
                found.check_hostname = False
                found.verify_mode = ssl.CERT_NONE
            self._show(found)
            self._contexts[backend] = found
        return found

    def _show(self, context: ssl.SSLContext) -> None:
        pair = self._shown()
        if pair is None:
            return
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            file.write(pair.certificate + pair.key)
            file.flush()
            context.load_cert_chain(file.name)

    def _shown(self) -> KeyPair | None:
        if self._pair is None:
            options = self._options
            if options.client_cert_file is not None and options.client_key_file is not None:
                self._pair = KeyPair(options.client_cert_file.read_bytes(), options.client_key_file.read_bytes())
            elif self._authority is not None:
                self._pair = self._authority.client(_CLIENT, _CLIENT)
        return self._pair


def _authorities(backend: Backend) -> bytes:
    """PEM of the CAs that may have issued its certificate; empty for the system's, or where nobody asks for one."""
    return base64.b64decode(backend.ca_bundle)
