"""The `kubecore` command. The names of commands and options are a contract."""

from __future__ import annotations

import sys

import typer

from kubecore.cli import bench, component, up

app = typer.Typer(
    name="kubecore",
    help="A whole Kubernetes in one command: API server, controllers, scheduler, kubelet, service proxy and DNS.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("up")(up.up)
app.command("apiserver")(component.apiserver)
app.command("controller-manager")(component.controller_manager)
app.command("scheduler")(component.scheduler)
app.command("kubelet")(component.kubelet)
app.command("proxy")(component.proxy)
app.command("dns")(component.dns)
app.command("bench")(bench.bench)


@app.command()
def version() -> None:
    """Print the version of kubecore and of the Kubernetes API it serves."""
    from kubecore import installed_version

    typer.echo(f"kubecore {installed_version()} (Kubernetes API v1.35)")


def main() -> None:
    """Entry point of the console script."""
    sys.exit(app())
