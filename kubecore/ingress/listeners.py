"""The ports that Ingresses are served at, bound when they are first needed."""

from __future__ import annotations

import logging

from kubecore import _native

log = logging.getLogger(__name__)

STANDARD = {"http": (80, 8080, 0), "https": (443, 8443, 0)}
"""What is tried in turn where no port was asked for: the protocol's own, one that needs no privilege, any."""


class ListenError(OSError):
    """A port that was asked for cannot be had."""


class Listeners:
    """`http_port` and `https_port`: None for the best there is, 0 for any."""

    def __init__(
        self,
        proxy: _native.IngressProxy,
        address: str,
        *,
        http_port: int | None,
        https_port: int | None,
    ) -> None:
        self._proxy = proxy
        self._address = address
        self._asked = {"http": http_port, "https": https_port}
        self.ports: dict[str, int] = {}
        """Bound ports by protocol; both once all is served."""

    @property
    def complete(self) -> bool:
        return len(self.ports) == len(self._asked)

    def open(self) -> None:
        """Bind what is not bound yet. Raises ListenError that names the port; what could be bound is served."""
        failed: list[str] = []
        for protocol, asked in self._asked.items():
            if protocol in self.ports:
                continue
            candidates = STANDARD[protocol] if asked is None else (asked,)
            for port in candidates:
                try:
                    self.ports[protocol] = self._proxy.listen(self._address, port, tls=protocol == "https", ahead=True)
                    break
                except OSError as error:
                    refused = f"cannot listen on {self._address} port {port} for {protocol}: {error.strerror}"
                    log.debug(refused)
            else:
                failed.append(refused)
        if failed:
            raise ListenError("; ".join(failed))

    def __str__(self) -> str:
        shown = f"[{self._address}]" if ":" in self._address else self._address
        return " and ".join(f"{protocol}://{shown}:{port}" for protocol, port in self.ports.items())
