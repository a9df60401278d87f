"""`kubecore bench NAME`: the benches of the source tree, by name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

FOLDER = Path(__file__).resolve().parents[2] / "benches" / "python"


def benches(folder: Path) -> dict[str, Path]:
    """Every bench of the folder by its name on the command line: `create_fsync.py` is `create-fsync`.

    A trailing underscore keeps a file from hiding a package of its name (`grpc_.py`); a leading one marks what the
    benches share.
    """
    files = sorted(folder.glob("*.py"))
    return {path.stem.rstrip("_").replace("_", "-"): path for path in files if not path.stem.startswith("_")}


def bench(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names of benches, or `all`.")],
) -> None:
    """Measure kubecore beside its peers (etcd, haproxy); needs a checkout of the source tree.

    Prints a table in Markdown. Exit status 1 when a bench could not be run; a missed target is a row of the table.
    """
    folder = FOLDER if FOLDER.is_dir() else Path.cwd() / "benches" / "python"
    known = benches(folder)
    if not known:
        typer.echo("kubecore: benches are part of the source tree; run this from a checkout", err=True)
        raise typer.Exit(2)
    wanted = list(known) if names == ["all"] else names
    if unknown := [name for name in wanted if name not in known]:
        told = ", ".join(repr(name) for name in unknown)
        typer.echo(f"kubecore: no bench is named {told}; there are: {', '.join(known)}, and all", err=True)
        raise typer.Exit(2)
    failed = []
    environment = dict(os.environ)
    for name in wanted:
        if subprocess.run([sys.executable, str(known[name])], env=environment, check=False).returncode:
            failed.append(name)
        environment["BENCH_HEADER_DONE"] = "1"
    if failed:
        typer.echo(f"kubecore: could not be run: {', '.join(failed)}", err=True)
        raise typer.Exit(1)
