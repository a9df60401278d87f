"""Commands run by a user without rights, also when the tests are run by root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.process import ROOT

UID = 54_321
"""Nobody's: a user needs no entry in the password file."""


class NoSuchUser(Exception):
    """Nothing can be run as another user here; the text is the reason to skip."""


@dataclass(frozen=True)
class User:
    """`prefix` goes before a command line, `program` is `kubecore`, `home` a folder of the user's own."""

    uid: int
    prefix: Sequence[str]
    program: Sequence[str]
    environment: Mapping[str, str]
    home: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.prefix, *arguments], env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )


@contextmanager
def user(uid: int = UID) -> Iterator[User]:
    """Whoever runs the tests, or `uid` if that is root. Raises NoSuchUser."""
    with tempfile.TemporaryDirectory(prefix="kubecore-user-") as folder:
        home = Path(folder)
        paths = [str(ROOT), *dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))]
        environment = {"PATH": os.defpath, "HOME": folder, "PYTHONPATH": os.pathsep.join(paths)}
        prefix: list[str] = []
        if os.geteuid() != 0:
            uid = os.geteuid()
        else:
            setpriv = shutil.which("setpriv")
            if setpriv is None:
                raise NoSuchUser("setpriv is needed to become another user")
            os.chown(home, uid, uid)
            prefix = [setpriv, f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
        program = [*prefix, _interpreter(prefix, environment), "-m", "kubecore"]
        yield User(uid, prefix, program, environment, home)


def _interpreter(prefix: Sequence[str], environment: Mapping[str, str]) -> str:
    """A Python like ours that the user may execute, and with it this source tree: ours may be in root's home."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    said = ""
    for candidate in (sys.executable, shutil.which(name, path=f"/usr/local/bin:{os.defpath}")):
        if candidate is None:
            continue
        command = [*prefix, candidate, "-c", "import kubecore._native, kubecore.cluster, uvloop"]
        done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return candidate
        said = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit status {done.returncode}"
    raise NoSuchUser(f"another user can run no Python of this version with this source tree: {said}")
