"""The demonstration behind `make demo`: boots a cluster, applies examples/web.yaml with the real kubectl, waits for
the roll-out, shows what runs and what the front end answers. On a terminal the cluster stays until Ctrl-C; without
one the program ends with exit status 0 once the answer is right.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
EXPECTED = "hello from the back end, by pod backend-"


def kubectl_program() -> str:
    """The kubectl on PATH; else the one that the virtual environment brings."""
    return shutil.which("kubectl") or str(BIN / "kubectl")


def show(kubectl: list[str], *arguments: str) -> None:
    print("\n$ kubectl " + " ".join(arguments), flush=True)
    subprocess.run([*kubectl, *arguments], check=True, timeout=180)


def read(kubectl: list[str], *arguments: str) -> str:
    return subprocess.run([*kubectl, *arguments], check=True, timeout=60, capture_output=True, text=True).stdout.strip()


def tour(kubectl: list[str]) -> bool:
    """Apply the example, show it, ask the front end several times; True when every answer is right."""
    show(kubectl, "apply", "-f", str(HERE / "web.yaml"))
    try:
        for deployment in ("backend", "frontend"):
            show(kubectl, "--namespace=web", "rollout", "status", f"deployment/{deployment}", "--timeout=120s")
    except subprocess.CalledProcessError:
        print("\nIt was not rolled out. What there is to say why:", flush=True)
        show(kubectl, "--namespace=web", "get", "pods", "-o", "wide")
        show(kubectl, "events", "--all-namespaces", "--types=Warning")
        raise
    show(kubectl, "get", "nodes", "-o", "wide")
    show(kubectl, "--namespace=web", "get", "pods,services", "-o", "wide")
    port = read(kubectl, "--namespace=web", "get", "service", "frontend", "-o", "jsonpath={.spec.ports[0].nodePort}")
    right = True
    for _ in range(4):
        print(f"\n$ curl http://127.0.0.1:{port}/", flush=True)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
            text = answer.read().decode()
        print(text, end="", flush=True)
        right = right and EXPECTED in text
    return right


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="kubecore-demo-") as data_dir:
        ports = ["--secure-port=0", "--grpc-port=0"]
        cluster = subprocess.Popen(
            # -P: what `make install` built, not the source tree that this is started in.
            [sys.executable, "-P", "-m", "kubecore", "up", f"--data-dir={data_dir}", *ports],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            assert cluster.stdout is not None
            line = cluster.stdout.readline()
            print(line, end="", flush=True)
            if not line.startswith("kubecore is ready"):
                return 1
            kubeconfig = f"{data_dir}/admin.kubeconfig"
            right = tour([kubectl_program(), f"--kubeconfig={kubeconfig}"])
            print("\nThe front end's answer is " + ("right." if right else "WRONG."), flush=True)
            if right and sys.stdin.isatty() and sys.stdout.isatty():
                print(f"The cluster runs on until Ctrl-C. In another terminal: export KUBECONFIG={kubeconfig}")
                signal.pause()
            return 0 if right else 1
        except KeyboardInterrupt:
            return 0
        finally:
            os.kill(cluster.pid, signal.SIGTERM)
            cluster.wait(timeout=30)


if __name__ == "__main__":
    sys.exit(main())
