"""How a node joins (`--bootstrap-kubeconfig`): its first certificate is asked for with a bootstrap token, or whatever
else that kubeconfig has, and its own kubeconfig leads to what is signed.

After upstream `pkg/kubelet/certificate/bootstrap/bootstrap.go`.
"""

from __future__ import annotations

import base64
import logging
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubecore import _native
from kubecore.api.errors import StatusError
from kubecore.client.kubeconfig import Kubeconfig
from kubecore.kubelet.requested_certificates import CLIENT, Names, NotSigned, RequestedCertificates
from kubecore.whole_file import write_whole

if TYPE_CHECKING:
    from kubecore.client.client import Client
    from kubecore.clock import Clock

log = logging.getLogger(__name__)

_RETRY_SECONDS, _PATIENCE_SECONDS = 2.0, 3600.0


async def join(kubeconfig: Path, known: Kubeconfig, client: Client, directory: Path, node: str, clock: Clock) -> None:
    """See to it that `kubeconfig` leads to a certificate of the node's, which is kept in `directory`. `known`: the
    bootstrap kubeconfig, with which `client` asks. Raises NotSigned, StatusError and OSError."""
    authorities = known.certificate_authority
    certificates = RequestedCertificates(client, clock, directory, Names(node), CLIENT, authorities=authorities)
    if certificates.current is None:
        await _ask(certificates, node, clock)
    kubeconfig.parent.mkdir(parents=True, exist_ok=True)
    write_whole(kubeconfig, _leading_to((directory / CLIENT.current).absolute(), known), mode=0o600)


def is_good(kubeconfig: Path, now: datetime) -> bool:
    """It has a certificate that has not expired, and its key: nothing is to be asked for."""
    from cryptography import x509

    if not kubeconfig.exists():
        return False
    try:
        known = Kubeconfig.load(kubeconfig)
        _native.ServingCertificate(known.client_certificate, known.client_key)  # which looks at the key
        chain = x509.load_pem_x509_certificates(known.client_certificate)
    except (OSError, ValueError) as error:
        log.warning("%s is not used, a certificate is asked for: %s", kubeconfig, error)
        return False
    for one in chain:
        if one.not_valid_after_utc < now:
            told = "part of the existing bootstrap client certificate in %s is expired: %s"
            log.warning(told, kubeconfig, one.not_valid_after_utc)
            return False
    return True


async def _ask(certificates: RequestedCertificates, node: str, clock: Clock) -> None:
    """A server that does not answer may do so later; one that refuses does not. Raises NotSigned, StatusError."""
    log.warning("node %s asks for its certificate and waits until the request is approved", node)
    try:
        async with clock.timeout(_PATIENCE_SECONDS):
            while True:
                try:
                    await certificates.request(patience_seconds=_PATIENCE_SECONDS)
                    return
                except (StatusError, OSError) as error:
                    if isinstance(error, StatusError) and error.code < 500 and error.code != 429:
                        raise
                    log.warning("node %s has no certificate yet: %s", node, error)
                await clock.sleep(_RETRY_SECONDS)
    except TimeoutError:
        raise NotSigned(f"node {node} was not given a certificate within an hour") from None


def _leading_to(pair: Path, known: Kubeconfig) -> bytes:
    """A kubeconfig for the same server, with the names that upstream gives."""
    import yaml

    cluster: dict[str, Any] = {"server": known.server}
    if known.certificate_authority:
        cluster["certificate-authority-data"] = base64.b64encode(known.certificate_authority).decode()
    if known.insecure_skip_tls_verify:
        cluster["insecure-skip-tls-verify"] = True
    if known.tls_server_name:
        cluster["tls-server-name"] = known.tls_server_name
    chosen = {"cluster": "default-cluster", "namespace": "default", "user": "default-auth"}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "default-cluster", "cluster": cluster}],
        "users": [{"name": "default-auth", "user": {"client-certificate": str(pair), "client-key": str(pair)}}],
        "contexts": [{"name": "default-context", "context": chosen}],
        "current-context": "default-context",
    }
    return yaml.safe_dump(document, sort_keys=False).encode()
