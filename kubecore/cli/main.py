"""The `kubecore` command. The names of commands and options are a contract."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from kubecore.cli import bench, component, controller_manager, image, kubeconfig, one_command, proxy, up
from kubecore.cli.leading import GoFlags

app = typer.Typer(
    name="kubecore",
    help="A whole Kubernetes in one command: API server, controllers, scheduler, kubelet, proxy, DNS and Ingress.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Names of options and values are never cut short, however narrow the terminal.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("up", cls=one_command.TakesCommand)(up.up)
app.command("apiserver", cls=GoFlags)(component.apiserver)
app.command("controller-manager", cls=GoFlags)(controller_manager.controller_manager)
app.command("scheduler", cls=GoFlags)(component.scheduler)
app.command("kubelet", cls=GoFlags)(component.kubelet)
app.add_typer(proxy.app, name="proxy")
app.command("dns")(component.dns)
app.command("ingress")(component.ingress)
app.command("bench")(bench.bench)
app.add_typer(kubeconfig.app, name="kubeconfig")
app.add_typer(image.app, name="image")


@app.command()
def version() -> None:
    """Print the version of kubecore and of the Kubernetes API it serves."""
    from kubecore import installed_version

    typer.echo(f"kubecore {installed_version()} (Kubernetes API v1.35)")


def _version_and_exit(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version_and_exit, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the console script."""
    sys.exit(app())
