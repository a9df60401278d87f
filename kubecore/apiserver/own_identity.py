"""What the server itself is known by: the cluster's authority, the certificates and tokens that come from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubecore import _native
from kubecore.apiserver import server_names
from kubecore.apiserver.aggregation.identity import FrontProxy
from kubecore.apiserver.authentication.kubeconfig import keep, kubeconfig
from kubecore.apiserver.authentication.pki import CertificateAuthority, KeyPair
from kubecore.apiserver.authentication.tokens import TokenIssuer

if TYPE_CHECKING:
    from pathlib import Path

    from kubecore.apiserver.config import APIServerConfig
    from kubecore.clock import Clock


class OwnIdentity:
    """`shown` is the certificate at the ports, `front_proxy` the one that extension API servers are shown."""

    def __init__(self, config: APIServerConfig, service_ip: str, clock: Clock) -> None:
        """Of `data_dir`/pki, where it is made if it is not there. Raises PKIError, OSError."""
        self._config = config
        self._service_ip = service_ip
        self._administrator: KeyPair | None = None
        directory = config.data_dir / "pki"
        self.authority = CertificateAuthority(directory, clock)
        pair = self._serving()
        self.shown = _native.ServingCertificate(pair.certificate, pair.key)
        issuer = f"https://kubernetes.default.svc.{config.cluster_domain}"
        self.tokens = TokenIssuer(directory, clock, issuer=issuer, options=config.authentication.service_accounts)
        headers = config.authentication.request_header
        self.front_proxy = FrontProxy(directory, clock, config.aggregation, headers)

    def renew_serving(self) -> None:
        """Whoever connects from now on is shown one that has time left."""
        pair = self._serving()
        self.shown.replace(pair.certificate, pair.key)

    def _serving(self) -> KeyPair:
        return self.authority.serving("apiserver", server_names.certified(self._config, self._service_ip))

    def write_kubeconfig(self, file: Path, url: str) -> None:
        """The administrator's, where it is not there with a certificate that has time left."""
        pair = self.authority.client("admin", "kubernetes-admin", ["system:masters"])
        if pair == self._administrator:
            return
        self._administrator = pair
        keep(file, kubeconfig(url, self.authority.certificate, pair, user="kubernetes-admin"))
