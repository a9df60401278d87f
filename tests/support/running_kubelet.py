# ruff: noqa: ASYNC110
"""A kubelet with real processes and its server, against an API in memory."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import trustme

from kubecore.clock import RealClock
from kubecore.kubelet.kubelet import Kubelet
from kubecore.kubelet.settings.kubelet_config import KubeletConfig
from tests.support.fake_api import FakeAPI

Object = dict[str, Any]


@dataclass
class Running:
    api: FakeAPI
    kubelet: Kubelet
    root: Path
    ca: trustme.CA

    def pod(self, name: str, *containers: Object, **spec: Any) -> None:
        body = {"containers": list(containers), "nodeName": "node", "restartPolicy": "Never", **spec}
        self.api.add("pods", {"metadata": {"name": name}, "spec": body, "status": {"phase": "Pending"}})

    async def until(self, name: str, condition: Callable[[Object], bool]) -> Object:
        async with asyncio.timeout(60):
            while True:
                pod = self.api.get("pods", name)
                if pod is not None and condition(pod):
                    return pod
                await asyncio.sleep(0.01)

    async def phase(self, name: str, phase: str) -> Object:
        return await self.until(name, lambda pod: pod["status"].get("phase") == phase)

    async def gone(self, name: str) -> None:
        async with asyncio.timeout(60):
            while self.api.get("pods", name) is not None:
                await asyncio.sleep(0.01)

    async def said(self, name: str, word: str) -> None:
        """Wait for a word in the output of a pod: only then its process has come that far."""
        async with asyncio.timeout(60):
            while word not in (await self.get(f"/containerLogs/default/{name}/main"))[1]:
                await asyncio.sleep(0.01)

    def client_context(self, subject: str, group: str = "") -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if subject:
            named = {"organization_name": group} if group else {}
            self.ca.issue_cert("client.example", common_name=subject, **named).configure_cert(context)
        return context

    def url(self, path: str) -> str:
        node = self.api.get("nodes", "node")
        assert node is not None
        address = node["status"]["addresses"][0]["address"]
        port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
        return f"https://{address}:{port}{path}"

    async def get(
        self,
        path: str,
        subject: str = "kube-apiserver-kubelet-client",
        *,
        group: str = "",
        token: str = "",
        method: str = "GET",
    ) -> tuple[int, str]:
        connector = aiohttp.TCPConnector(ssl=self.client_context("" if token else subject, group))
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, self.url(path), headers=headers) as answer,
        ):
            return answer.status, await answer.text()


def shell(script: str, **fields: Any) -> Object:
    return {"name": "main", "image": "any", "command": ["/bin/sh", "-c", script], **fields}


@asynccontextmanager
async def running_kubelet(tmp_path: Path, *, runtime: str = "host", mark: str = "") -> AsyncIterator[Running]:
    """`mark`: tells apart what runs at the same time in one process."""
    clock = RealClock()
    api = FakeAPI(clock, namespaces=("default", "kube-node-lease"))
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.crt")
    config = KubeletConfig(
        node_name="node",
        node_index=6,
        root_dir=tmp_path / "root",
        default_runtime=runtime,
        network_mode="loopback",
        cluster_id=f"{os.getpid()}{mark}",
        client_ca=tmp_path / "ca.crt",
        # Most programs of tests ignore SIGTERM, being the first of their pods.
        last_grace_seconds=0.1,
    )
    kubelet = Kubelet(api.client("kubelet"), clock, config)
    task = asyncio.create_task(kubelet.run())
    ready = asyncio.create_task(kubelet.ready.wait())
    await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED, timeout=60)
    if task.done():
        task.result()
    try:
        yield Running(api, kubelet, tmp_path / "root", ca)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
