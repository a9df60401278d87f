"""`kubecore kubeconfig user`: credentials for people, and for components that run on their own, as kubeadm makes."""

from __future__ import annotations

from typing import Annotated

import typer

from kubecore.cli import options
from kubecore.cli.up import told

app = typer.Typer(help="Credentials of a cluster's users, signed by its certificate authority.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `user` a command of its own."""


@app.command()
def user(
    client_name: Annotated[str, typer.Option(help="Name of the user, such as system:node:NAME for a kubelet.")],
    org: Annotated[list[str] | None, typer.Option(help="A group of the user; may be given several times.")] = None,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """Print a kubeconfig with a new client certificate, good for a year.

    For a component: `system:kube-scheduler`; `system:kube-proxy`; `system:coredns` for `kubecore dns`;
    `system:kubecore-ingress`; `system:node:NAME` with --org system:nodes for the kubelet of node NAME;
    `system:kube-controller-manager`, with --org system:masters unless it runs with --use-service-account-credentials.
    """
    from kubecore.apiserver.authentication.kubeconfig import kubeconfig
    from kubecore.apiserver.authentication.pki import CertificateAuthority
    from kubecore.client.kubeconfig import Kubeconfig
    from kubecore.clock import RealClock

    administrator = data_dir / "admin.kubeconfig"
    try:
        if not administrator.exists():
            typer.echo(f"kubecore: no cluster was started in {data_dir} yet: it has no admin.kubeconfig", err=True)
            raise typer.Exit(1)
        authority = CertificateAuthority(data_dir / "pki", RealClock())
        server = Kubeconfig.load(administrator).server
        try:
            pair = authority.issue_client(client_name, org or [])
        except ValueError:
            words = "a name in a certificate has 1 to 64 characters"
            raise typer.BadParameter(words, param_hint="--client-name") from None
    except OSError as error:
        typer.echo(f"kubecore: {told(error)}", err=True)
        raise typer.Exit(1) from None
    typer.echo(kubeconfig(server, authority.certificate, pair, user=client_name), nl=False)
