"""Which kubelet, and which of its containers, a request about a pod is for; and how the API server reaches kubelets."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kubecore import _native, node_network
from kubecore.api import errors
from kubecore.apiserver.webhooks.wording import joined, said
from kubecore.server_trust import trusting

if TYPE_CHECKING:
    import aiohttp

    from kubecore.apiserver.authentication.pki import CertificateAuthority
    from kubecore.apiserver.registry.registry import Registry

JSON = dict[str, Any]

_ADDRESS_TYPES = ("InternalIP", "Hostname", "InternalDNS", "ExternalDNS", "ExternalIP")


@dataclass(frozen=True, slots=True)
class Kubelet:
    """Where a node's kubelet listens."""

    host: str
    port: int

    def url(self, path: str) -> str:
        return f"https://{joined(self.host, self.port)}{path}"

    def unanswered(self, url: str, error: BaseException) -> str:
        """Why a GET of it came to nothing, as Go's client tells it."""
        import aiohttp

        if isinstance(error, aiohttp.ConnectionTimeoutError):
            why = f"dial tcp {joined(self.host, self.port)}: i/o timeout"
        elif isinstance(error, TimeoutError):
            why = "context deadline exceeded"
        else:
            why = said(error)
        return f'Get "{url}": {why}'


class KubeletConnection:
    """HTTPS to kubelets with the API server's client certificate; the session is made on first use.

    `kubelet_ca` (PEM) must have issued kubelets' serving certificates; without it they are not verified, as with
    kube-apiserver's `--kubelet-certificate-authority`.
    """

    def __init__(self, authority: CertificateAuthority, kubelet_ca: bytes | None = None) -> None:
        self._authority = authority
        self._kubelet_ca = kubelet_ca
        self._session: aiohttp.ClientSession | None = None
        # Those of former certificates: what they are used for goes on.
        self._former: list[aiohttp.ClientSession] = []
        self._identity: tuple[bytes, bytes] | None = None
        self._tls: _native.BackendTls | None = None

    def tls(self) -> _native.BackendTls:
        """For requests that are passed on in Rust."""
        if self._tls is None:
            self._tls = _native.BackendTls(identity=self._own_identity(), ca_pem=self._kubelet_ca)
        return self._tls

    def _own_identity(self) -> tuple[bytes, bytes]:
        """Certificate and key."""
        if self._identity is None:
            self._identity = self._issued()
        return self._identity

    def _issued(self) -> tuple[bytes, bytes]:
        """Another one when it is due."""
        pair = self._authority.client("apiserver-kubelet-client", "kube-apiserver-kubelet-client", ["system:masters"])
        return pair.certificate, pair.key

    def renew(self) -> None:
        """From now on connections are made with another certificate, if it is due."""
        if self._identity is None or (issued := self._issued()) == self._identity:
            return
        self._identity, self._tls = issued, None
        if self._session is not None:
            self._former.append(self._session)
            self._session = None

    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            connector = aiohttp.TCPConnector(ssl=self._context(), limit=0, socket_factory=node_network.of_address)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=aiohttp.ClientTimeout(total=None, sock_connect=10)
            )
        return self._session

    def _context(self) -> ssl.SSLContext:
        import tempfile

        certificate, key = self._own_identity()
        context = trusting(self._kubelet_ca.decode() if self._kubelet_ca else "")
        # Kubelets serve under the name of their node, whichever address of it is used.
        context.check_hostname = False
        if self._kubelet_ca is None:
            context.verify_mode = ssl.CERT_NONE
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            file.write(certificate + key)
            file.flush()
            context.load_cert_chain(file.name)
        return context

    async def close(self) -> None:
        for session in (*self._former, *([self._session] if self._session is not None else [])):
            await session.close()


def kubelet_of(registry: Registry, node_name: str, *, asked: str = "nodes") -> Kubelet:
    """Raises 404 for an unknown node, which upstream tells of as one of what was `asked` for, and 500 for one that does
    not say where its kubelet is."""
    node = registry.get("nodes", "", node_name)
    if node is None:
        raise errors.not_found("", asked, node_name)
    status = node.get("status") or {}
    addresses = {one.get("type"): one.get("address") for one in reversed(status.get("addresses") or [])}
    host = next((addresses[kind] for kind in _ADDRESS_TYPES if addresses.get(kind)), "")
    port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port") or 0
    if host and not port:
        raise errors.bad_request(f'node "{node_name}" has no kubelet to ask: nothing runs on simulated nodes')
    if not host:
        raise errors.internal_error(f"no preferred addresses found for node {node_name!r}; known: {addresses}")
    return Kubelet(host, port)


def chosen_container(pod: JSON, wanted: str) -> str:
    """The container that a request is for; the only one when none is named. Raises 400 with the choices."""
    spec, name = pod.get("spec") or {}, pod["metadata"]["name"]
    kinds = ("initContainers", "containers", "ephemeralContainers")
    every = [one["name"] for kind in kinds for one in spec.get(kind) or []]
    if wanted:
        if wanted not in every:
            raise errors.bad_request(f"container {wanted} is not valid for pod {name}")
        return wanted
    if len(spec.get("containers") or []) == 1:
        return str(spec["containers"][0]["name"])
    raise errors.bad_request(f"a container name must be specified for pod {name}, choose one of: [{' '.join(every)}]")
