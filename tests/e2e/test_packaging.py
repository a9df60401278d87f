"""What `python -m build` makes: an sdist that builds by itself, and a wheel that works where there is no Rust.

The wheel is built from the sdist. Compiling it for release takes minutes more than the development profile does, whose
dependencies `make setup` has compiled already, and so takes optimising our own crates; `KUBECORE_WHEEL_PROFILE=release`
builds what users get.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.kubectl import Kubectl, program
from tests.support.process import ROOT, Command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PROFILE = os.environ.get("KUBECORE_WHEEL_PROFILE", "dev")
# Of our own crates: of all others the profile says something else, so that they are not compiled once more.
NOT_OPTIMISED = {"CARGO_PROFILE_DEV_OPT_LEVEL": "0", "CARGO_PROFILE_DEV_DEBUG": "false"}
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BAKED = {f"kubecore/api/data/{name}" for name in ("resources.json", "definitions.json.z", "schemas.json.z")}


def run(*command: str | Path, environment: dict[str, str] | None = None, folder: Path | None = None) -> str:
    done = subprocess.run(
        [str(word) for word in command], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(kind: str, source: Path, output: Path) -> Path:
    """One distribution, in an isolated environment as `python -m build` makes it."""
    environment = {
        **os.environ,
        **NOT_OPTIMISED,
        "CARGO_TARGET_DIR": str(TARGET),
        "MATURIN_PEP517_ARGS": f"--profile {PROFILE}",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    environment.pop("PYTHONPATH", None)
    command = (sys.executable, "-m", "build", "--installer", "uv", kind, "--outdir", output, source)
    run(*command, environment=environment, folder=output)
    [made] = output.iterdir()
    return made


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("--sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Always the same place, lest cargo keep the artifacts of each run; times of now, lest it take them for old.
    folder = TARGET / "sdist"
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter=lambda member, path: member.replace(mtime=time.time()))
    [source] = folder.iterdir()
    try:
        return build("--wheel", source, tmp_path_factory.mktemp("wheel"))
    finally:
        shutil.rmtree(folder)


@dataclass(frozen=True)
class Installed:
    """A virtual environment that holds the wheel and what it declares; cargo and the source tree are out of reach."""

    venv: Path
    home: Path

    @property
    def kubecore(self) -> Path:
        return self.venv / "bin" / "kubecore"

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": str(self.venv / "bin"), "HOME": str(self.home)}


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("installed")
    venv, home = folder / "venv", folder / "home"
    home.mkdir()
    uv = (sys.executable, "-m", "uv", "--quiet")
    run(*uv, "venv", "--python", sys.executable, venv)
    run(*uv, "pip", "install", "--python", venv / "bin" / "python", wheel)
    return Installed(venv, home)


def test_the_sdist_holds_all_that_a_build_needs(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = set(run("git", "-C", ROOT, "ls-files", "native", "kubecore", "build_backend", "proto").split())
    needed = {name for name in tracked if (ROOT / name).exists() and not name.endswith(".gitignore")}
    assert needed - names == set()
    assert {"Cargo.toml", "Cargo.lock", "pyproject.toml", "README.md", *BAKED} <= names


def test_one_wheel_is_for_every_python_from_3_11_on(wheel: Path) -> None:
    assert wheel.name.split("-")[2:4] == ["cp311", "abi3"]


def test_the_wheel_holds_the_package_with_its_extension_and_facts_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
    assert BAKED | {"kubecore/_native.abi3.so", "kubecore/py.typed"} <= names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"kubecore"}
    assert not any(name.endswith((".rs", ".toml", ".lock")) for name in names)
    assert "Requires-Python: >=3.11" in metadata


def test_the_declared_dependencies_agree_with_each_other(installed: Installed) -> None:
    run(sys.executable, "-m", "uv", "--quiet", "pip", "check", "--python", installed.venv / "bin" / "python")


def test_the_command_says_its_version_where_there_is_no_rust(installed: Installed) -> None:
    assert shutil.which("cargo", path=installed.environment["PATH"]) is None
    said = run(installed.kubecore, "version", environment=installed.environment, folder=installed.home)
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    assert said == f"kubecore {version} (Kubernetes API v1.35)\n"


def test_every_module_can_be_imported_with_only_what_is_declared(installed: Installed) -> None:
    """But the one that pytest loads, where there is pytest: it is told of as its plugin."""
    code = (
        "import pkgutil, importlib, kubecore\n"
        "for module in pkgutil.walk_packages(kubecore.__path__, 'kubecore.'):\n"
        "    if not module.name.endswith(('__main__', '.pytest_plugin')):\n"
        "        importlib.import_module(module.name)\n"
        "from importlib.metadata import entry_points\n"
        "assert [one.value for one in entry_points(group='pytest11')] == ['kubecore.pytest_plugin']\n"
        "print(kubecore.__file__)"
    )
    python = installed.venv / "bin" / "python"
    said = run(python, "-c", code, environment=installed.environment, folder=installed.home)
    assert said.startswith(str(installed.venv))


def test_a_cluster_of_the_wheel_comes_up_outside_the_source_tree(installed: Installed) -> None:
    command = Command(
        *("up", "--secure-port", "0", "--grpc-port", "0"),
        program=(str(installed.kubecore),),
        environment=installed.environment,
        folder=installed.home,
    )
    try:
        command.wait_ready()
        found = program("1.37")
        assert found is not None
        kubectl = Kubectl(found, installed.home / ".kubecore" / "admin.kubeconfig", installed.home)
        # The API is ready before the node has registered itself.
        node = f"node/{socket.gethostname().lower()}"
        kubectl("wait", "--for=create", node, "--timeout=180s")
        kubectl("wait", "--for=condition=Ready", node, "--timeout=180s")
        assert "restartPolicy" in kubectl("explain", "pod.spec")
        assert command.stop() == 0, command.errors
    finally:
        command.kill()
