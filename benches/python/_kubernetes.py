"""Kubernetes' own API server over etcd, as the peer that speaks the same API. `benches/install-peers` builds both from
the Go modules that benches/kubernetes/go.mod names.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from _payloads import fill_etcd
from _servers import CORE, SERVER_CPU, Server, etcd, free_port, pinned, running, scratch, trusting

BUILT = Path(__file__).resolve().parents[2] / "target" / "peers"
NAME = "kube-apiserver + etcd"
_TOKEN = "administrator"
_READY_SECONDS = 120


def built(name: str) -> str:
    path = BUILT / name
    if not path.exists():
        raise SystemExit(f"{name} is missing: benches/install-peers builds it (Go is needed)")
    return str(path)


@contextmanager
def kube_apiserver(objects: Sequence[tuple[str, bytes]] = (), *, cpu: str | None = SERVER_CPU) -> Iterator[Server]:
    """Both on one core, or on all, with what RBAC, admission and storage are by default. `objects`, by their key in
    etcd, are there from the start, in JSON; otherwise what is stored is protobuf, as it is by default."""
    with scratch("kube-apiserver-bench-") as name, etcd(cpu=cpu, binary=built("etcd")) as store:
        fill_etcd(store, list(objects))
        folder, port = Path(name), free_port()
        (folder / "tokens.csv").write_text(f"{_TOKEN},administrator,administrator,system:masters\n")
        subprocess.run(["openssl", "genrsa", "-out", folder / "sa.key", "2048"], check=True, capture_output=True)
        line = [built("kube-apiserver"), "--etcd-servers", store.url, "--secure-port", str(port)]
        line += ["--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1", "--cert-dir", f"{folder}/pki"]
        line += ["--service-account-key-file", f"{folder}/sa.key", "--service-account-issuer", "https://bench"]
        line += ["--service-account-signing-key-file", f"{folder}/sa.key", "--endpoint-reconciler-type", "none"]
        line += ["--authorization-mode", "Node,RBAC", "--token-auth-file", f"{folder}/tokens.csv"]
        line += ["--service-cluster-ip-range", "10.96.0.0/16", "--profiling=false"]
        line += ["--storage-media-type", "application/json"] if objects else []
        with running(pinned(cpu, *line), port, folder) as server:
            server.url = server.admin_url = f"https://127.0.0.1:{port}"
            server.admin_token, server.store = _TOKEN, store
            server.ready_seconds += _until_ready(server)
            # there is no controller to make what pods need
            server.call("POST", f"{CORE}/serviceaccounts", {"metadata": {"name": "default"}})
            yield server


def _until_ready(server: Server) -> float:
    began = time.monotonic()
    url = f"{server.url}/readyz"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {_TOKEN}"})
    while time.monotonic() < began + _READY_SECONDS:
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=5, context=trusting(url)):
            return time.monotonic() - began
        time.sleep(0.05)
    raise RuntimeError((server.data_dir / "stderr").read_text()[-2000:])
