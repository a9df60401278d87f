"""`kubecore bench NAME`: the benches of the source tree, by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

FOLDER = Path(__file__).resolve().parents[2] / "benches" / "python"


def bench(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names of benches, or `all`.")],
) -> None:
    """Measure kubecore beside its peers (etcd, haproxy); needs a checkout of the source tree."""
    folder = FOLDER if FOLDER.is_dir() else Path.cwd() / "benches" / "python"
    known = {path.stem.replace("_", "-"): path for path in sorted(folder.glob("*.py")) if not path.stem.startswith("_")}
    if not known:
        typer.echo("kubecore: benches are part of the source tree; run this from a checkout", err=True)
        raise typer.Exit(2)
    wanted = list(known) if names == ["all"] else names
    if unknown := [name for name in wanted if name not in known]:
        typer.echo(f"kubecore: no bench named {', '.join(unknown)}; there are: {', '.join(known)}", err=True)
        raise typer.Exit(2)
    failed = [name for name in wanted if subprocess.run([sys.executable, str(known[name])], check=False).returncode]
    raise typer.Exit(1 if failed else 0)
