"""Health check node ports: what load balancers ask to learn which nodes have endpoints of a Service.

Several nodes of one host are told apart by the address that is asked. At one that is no single node's, connections may
come to endpoints of any of them, so that all count there.
(kubernetes `pkg/proxy/healthcheck/service_health.go`.)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial

from kubecore.proxy.http_answers import Answer, HttpAnswers
from kubecore.proxy.virtual_servers import HealthCheck


class HealthChecks:
    """A server for each Service that asks for one, at `addresses`. `healthy` tells whether the proxy itself is."""

    def __init__(self, addresses: Callable[[], Sequence[str]], healthy: Callable[[], bool]) -> None:
        self._addresses = addresses
        self._healthy = healthy
        self._wanted: dict[str, HealthCheck] = {}
        self._servers: dict[str, tuple[list[tuple[str, int]], HttpAnswers]] = {}

    async def set(self, service: str, check: HealthCheck | None) -> None:
        """What a Service (its key) asks for now. Raises OSError when its port cannot be had."""
        if check is None:
            self._wanted.pop(service, None)
        else:
            self._wanted[service] = check
        where = [(address, check.port) for address in self._addresses()] if check is not None else []
        present, server = self._servers.get(service, ([], None))
        if where == present:
            return
        if server is not None:
            server.close()
            del self._servers[service]
        if where:
            await self._open(service, where)

    async def _open(self, service: str, where: list[tuple[str, int]]) -> None:
        server = HttpAnswers(partial(self._answer, service))
        try:
            for address, port in where:
                await server.listen(address, port)
        except OSError:
            server.close()
            raise
        self._servers[service] = where, server

    def _answer(self, service: str, _path: str, at: str) -> Answer:
        namespace, _, name = service.partition("/")
        count, healthy = self._wanted[service].endpoints_at(at), self._healthy()
        told = {
            "service": {"namespace": namespace, "name": name},
            "localEndpoints": count,
            "serviceProxyHealthy": healthy,
        }
        return Answer(
            json.dumps(told, indent="\t").encode(),
            "application/json",
            200 if count and healthy else 503,
            {"X-Load-Balancing-Endpoint-Weight": str(count)},
        )

    def close(self) -> None:
        for _, server in self._servers.values():
            server.close()
        self._servers.clear()
        self._wanted.clear()
