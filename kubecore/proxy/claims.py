"""Which Service has an address and port that several ask for, and what keeps a Service from being served."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from kubecore.port_names import shown
from kubecore.proxy.virtual_servers import ServerKey, VirtualServer


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a virtual server is not served; `passing` ones may be gone at the next attempt."""

    server: VirtualServer
    reason: str
    message: str
    passing: bool


@dataclass(slots=True)
class Granted:
    """What a Service has after asking: `servers` are its own now, `lost` it has no more, `heirs` are other Services
    that have become the first to ask for something."""

    servers: list[VirtualServer] = field(default_factory=list)
    lost: list[ServerKey] = field(default_factory=list)
    heirs: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


class Claims:
    """Holds for every server key the Services that ask for it, in order of asking; the first one has it."""

    def __init__(self) -> None:
        self._asked: dict[str, dict[ServerKey, VirtualServer]] = {}
        self._claims: dict[ServerKey, list[str]] = {}

    def ask(self, service: str, servers: Iterable[VirtualServer]) -> Granted:
        """`servers` are all that the Service (its key) asks for from now on; none takes it out."""
        result = Granted()
        wanted = {server.key: server for server in servers}
        for key in self._asked.get(service, {}).keys() - wanted.keys():
            self._give_up(service, key, result)
        if wanted:
            self._asked[service] = wanted
        else:
            self._asked.pop(service, None)
        for key, server in wanted.items():
            claims = self._claims.setdefault(key, [])
            if service not in claims:
                claims.append(service)
            if claims[0] == service:
                result.servers.append(server)
            else:
                taken = f"{where(server)} belongs to Service {claims[0]}"
                result.problems.append(Problem(server, "AddressTaken", taken, passing=False))
        return result

    def owner(self, key: ServerKey) -> str:
        """The key of the Service that has it; "" for nobody."""
        claims = self._claims.get(key)
        return claims[0] if claims else ""

    def clear(self) -> None:
        self._asked.clear()
        self._claims.clear()

    def _give_up(self, service: str, key: ServerKey, result: Granted) -> None:
        claims = self._claims.get(key, [])
        if service not in claims:
            return
        had_it = claims[0] == service
        claims.remove(service)
        if not claims:
            self._claims.pop(key)
        if had_it:
            result.lost.append(key)
            if claims:
                result.heirs.append(claims[0])


def where(server: VirtualServer) -> str:
    return shown(*server.key)
