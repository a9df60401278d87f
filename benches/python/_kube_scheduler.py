"""kube-scheduler as the peer of `sched5k`: with its own API server over etcd, and with kubecore's API server in that
one's place. The same nodes and pods, on all cores; `benches/install-peers` builds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from _kubernetes import built, kube_apiserver
from _sched_workloads import WORKLOADS, Workload
from _scheduling import create_all, furnish
from _servers import Server, kubecore, running_cpu_seconds, scratch, trusting

from kubecore.client.client import Client
from kubecore.client.http import HTTPTransport
from kubecore.client.kubeconfig import Kubeconfig

OWN, OURS = "kube-scheduler on kube-apiserver + etcd", "kube-scheduler on kubecore"
_NAME = re.compile(rb'"name":"([^"]+)"')
_GIVE_UP_SECONDS = 1200


@contextmanager
def api_server(kind: str) -> Iterator[tuple[Server, Kubeconfig]]:
    if kind == OWN:
        with kube_apiserver(cpu=None) as server:
            yield server, Kubeconfig(server=server.url, token=server.admin_token, insecure_skip_tls_verify=True)
    else:
        with kubecore(cpu=None) as server:
            yield server, Kubeconfig.load(server.data_dir / "admin.kubeconfig")


class Scheduler:
    """A kube-scheduler, without the limit on its requests that it has by default (as in its own performance tests)."""

    def __init__(self, folder: Path) -> None:
        connection = {"kubeconfig": str(folder / "kubeconfig"), "qps": 5000, "burst": 5000}
        config = {
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "clientConnection": connection,
            "leaderElection": {"leaderElect": False},
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        line = [built("kube-scheduler"), "--config", str(folder / "config.yaml"), "--secure-port", "0"]
        with (folder / "stderr").open("w") as errors:
            self.process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=errors)

    def cpu_seconds(self) -> float:
        return running_cpu_seconds(self.process.pid)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)


def bound(server: Server, config: Kubeconfig, since: str, wanted: int) -> Iterator[float]:
    """The moments at which pods were seen to get their node, for so many pods."""
    headers = {"Authorization": f"Bearer {config.token}"} if config.token else {}
    url = f"{config.server}/api/v1/pods?watch=1&resourceVersion={since}"
    context = trusting(url)
    if context is not None and config.client_certificate:
        with scratch("kube-scheduler-client-") as folder:
            pem = Path(folder, "client.pem")
            pem.write_bytes(config.client_certificate.rstrip() + b"\n" + config.client_key)
            context.load_cert_chain(pem)
    seen: set[bytes] = set()
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=_GIVE_UP_SECONDS, context=context) as events:
        for line in events:
            # decoding all would cost the scheduler cores that it needs
            name = _NAME.search(line)
            if line.startswith(b'{"type":"MODIFIED"') and b'"nodeName":"' in line and name and name[1] not in seen:
                seen.add(name[1])
                yield time.perf_counter()
                if len(seen) == wanted:
                    return


async def _version(client: Client) -> str:
    """Where the store is: that of any list."""
    return str((await client.list("namespaces")).resource_version)


def scheduled(name: str, kind: str) -> dict[str, float]:
    """One round; from the first binding to the last."""
    workload: Workload = WORKLOADS[name]
    with scratch("kube-scheduler-bench-") as folder, api_server(kind) as (server, config):
        config.save(Path(folder, "kubeconfig"))

        def with_client(work: Any) -> Any:
            async def run() -> Any:
                transport = HTTPTransport(config)
                try:
                    return await work(Client(transport, field_manager="bench"))
                finally:
                    await transport.close()

            return asyncio.run(run())

        def schedule(namespace: str, make: Any, count: int) -> tuple[list[float], float]:
            with_client(lambda client: create_all(client, "pods", (make(namespace) for _ in range(count))))
            since = with_client(_version)
            cpu = server.cpu_seconds()
            scheduler = Scheduler(Path(folder))
            try:
                moments = list(bound(server, config, since, count))
                return moments, server.cpu_seconds() - cpu + scheduler.cpu_seconds()
            finally:
                scheduler.stop()

        with_client(lambda client: furnish(client, workload))
        if workload.first_pods:
            schedule("sched-0", workload.first, workload.first_pods)
        moments, cpu = schedule("sched-1", workload.then, workload.pods)
        return {"pods": len(moments) - 1, "seconds": moments[-1] - moments[0], "cpu": cpu}


if __name__ == "__main__":
    import sys

    with contextlib.suppress(KeyboardInterrupt):
        print(json.dumps(scheduled(sys.argv[1], {"own": OWN, "ours": OURS}[sys.argv[2]])))
