"""Debian's containerd, by itself: with a configuration, state and images of its own, ended by its pid."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.debian_packages import fetched
from tests.support.process import ROOT
from tests.support.small_image import SmallImage, programs

PROGRAMS, PAUSE = "localhost/programs:1", "localhost/pause:1"
STUBS = "container-runtime-interface-api==2.0.1"


@dataclass(frozen=True)
class Containerd:
    """`cni`: the folder that its configuration names; a kubelet puts its plugin there."""

    endpoint: str
    cni: Path
    tool: tuple[str, ...]
    """The beginning of a `ctr` command line."""
    stubs: Path
    """Where what the extra `cri` brings is."""

    def load(self, archive: Path) -> None:
        _run([*self.tool, "images", "import", str(archive)])

    def images(self) -> list[str]:
        """Their names, without those that are digests."""
        listed = _run([*self.tool, "images", "list", "--quiet"]).split()
        return sorted(one for one in listed if not one.startswith("sha256:") and "@" not in one)

    def tasks(self) -> list[str]:
        return _run([*self.tool, "tasks", "list", "--quiet"]).split()

    def environment(self) -> dict[str, str]:
        """Of a kubecore of this source tree that is to find what the extra brings."""
        return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(self.stubs)])}


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def install_stubs(folder: Path) -> Path:
    """Beside what this interpreter has, of which they pin an older protobuf."""
    _run([sys.executable, "-m", "uv", "--quiet", "pip", "install", "--no-deps", "--target", str(folder), STUBS])
    return folder


@contextmanager
def running_containerd(folder: Path, *, cni: Path | None = None) -> Iterator[Containerd]:
    """`cni`: another folder than `folder`'s own."""
    cni = cni or folder / "cni"
    path = os.environ["PATH"]
    if shutil.which("containerd") is None or shutil.which("runc") is None:
        unpacked = fetched(folder / "packages", "containerd", "runc")
        path = os.pathsep.join([*(str(unpacked / place) for place in ("usr/bin", "usr/sbin")), path])
    stubs = install_stubs(folder / "stubs")
    # Paths of sockets are short.
    with tempfile.TemporaryDirectory(prefix="ctd") as state:
        config = folder / "config.toml"
        config.write_text(_configuration(folder, Path(state), cni))
        command = [shutil.which("containerd", path=path) or "", "--config", str(config)]
        with (folder / "stderr").open("w") as errors:
            process = subprocess.Popen(command, stderr=errors, env={**os.environ, "PATH": path})
        tool = (shutil.which("ctr", path=path) or "", "--address", f"{state}/c.sock", "--namespace", "k8s.io")
        running = Containerd(f"unix://{state}/c.sock", cni, tool, stubs)
        sys.path.append(str(stubs))
        try:
            _until_it_answers(process, tool, folder / "stderr")
            for name, run in ((PROGRAMS, {}), (PAUSE, {"Cmd": ["/bin/sleep", "infinity"]})):
                image = SmallImage([programs()], run, [name])
                running.load(image.docker_archive(folder / "image.tar"))
            yield running
            assert running.tasks() == []
        finally:
            sys.path.remove(str(stubs))
            process.terminate()
            process.wait()


def _configuration(folder: Path, state: Path, cni: Path) -> str:
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    # Processes here have no CAP_SYS_RESOURCE.
    return f"""version = 2
root = "{folder}/root"
state = "{state}/state"
[grpc]
address = "{state}/c.sock"
[{cri}]
restrict_oom_score_adj = true
sandbox_image = "{PAUSE}"
[{cri}.cni]
conf_dir = "{cni}/net.d"
bin_dir = "{cni}/bin"
"""


def _until_it_answers(process: subprocess.Popen[bytes], tool: tuple[str, ...], said: Path) -> None:
    deadline = time.monotonic() + 180
    while subprocess.run([*tool, "version"], capture_output=True, check=False).returncode != 0:
        assert process.poll() is None and time.monotonic() < deadline, said.read_text()
        time.sleep(0.05)
