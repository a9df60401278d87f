"""API servers with options of their own, for the time of a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kubecore.apiserver.config import APIServerConfig
from kubecore.apiserver.server import APIServer
from kubecore.apiserver.storage.lmdb import LMDBConfig
from kubecore.clock import Clock, RealClock

from .http import Http

JSON = dict[str, Any]


@asynccontextmanager
async def served(folder: Path, clock: Clock | None = None, **options: Any) -> AsyncIterator[APIServer]:
    """One on a free port, over `folder`/data."""
    config = APIServerConfig(data_dir=folder / "data", secure_port=0, storage=LMDBConfig(sync=False), **options)
    server = APIServer(config, clock or RealClock())
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def whoami(http: Http, **headers: str) -> tuple[int, JSON]:
    """Status and the user that the request is taken for."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await http.call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review, named)
    return answer.status, answer.json["status"]["userInfo"] if answer.status == 201 else {}
