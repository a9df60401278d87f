"""Python clients' own source packages: their tests and examples, unpacked, and an environment to run them in.

Nothing of them is kept in this repository: pip brings the source packages, and requirements.txt beside the tests pins
what they need.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parents[1] / "e2e" / "client_suites" / "requirements.txt"


def run(*command: str | Path) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"


@dataclass(frozen=True)
class ClientSources:
    """A virtual environment with the clients and what their tests need, and the folder of unpacked source packages."""

    venv: Path
    sources: Path

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python"

    def environment(self, kubeconfig: Path, kubectl: Path, home: Path) -> dict[str, str]:
        """Of a process of a client: it finds its programs, this kubectl and the cluster, and no other configuration."""
        path = os.pathsep.join([str(self.venv / "bin"), str(kubectl.parent), os.environ["PATH"]])
        return {"PATH": path, "HOME": str(home), "KUBECONFIG": str(kubeconfig)}

    def source(self, package: str) -> Path:
        """The unpacked source package of `package`, at the version that is installed."""
        found = list(self.sources.glob(f"{package.replace('-', '_')}-*"))
        return found[0] if found else self._unpacked(package)

    def _unpacked(self, package: str) -> Path:
        [wanted] = [line for line in REQUIREMENTS.read_text().splitlines() if line.startswith(f"{package}==")]
        archives = self.sources / "archives"
        # pip asks a source package for its metadata; the build back ends for that are among the requirements.
        options = ("--no-deps", "--no-build-isolation", "--no-binary", ":all:", "--quiet", "--dest", archives)
        run(self.python, "-m", "pip", "download", *options, wanted)
        [archive] = archives.glob(f"{package.replace('-', '_')}-*.tar.gz")
        with tarfile.open(archive) as opened:
            opened.extractall(self.sources, filter="data")
        return self.sources / archive.name.removesuffix(".tar.gz")


def installed(folder: Path) -> ClientSources:
    """Make the environment under `folder`."""
    made = ClientSources(folder / "venv", folder / "sources")
    made.sources.mkdir()
    uv = (sys.executable, "-m", "uv", "--quiet")
    run(*uv, "venv", "--python", sys.executable, made.venv)
    run(*uv, "pip", "install", "--python", made.python, "--no-deps", "-r", REQUIREMENTS)
    return made
