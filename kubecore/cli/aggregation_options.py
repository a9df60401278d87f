"""How requests reach extension API servers: kube-apiserver's flags, which `kubecore up` has too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kubecore.apiserver.aggregation.options import AggregationOptions
from kubecore.cli import options
from kubecore.cli.option_groups import stands_for

ClientCert = Annotated[
    Path | None, options.file("The certificate that extension API servers are shown; without it one of our own CA.")
]
ClientKey = Annotated[Path | None, options.file("Its key.")]
Routing = Annotated[
    bool,
    typer.Option(
        "--enable-aggregator-routing/--no-enable-aggregator-routing",
        help="Requests go to endpoints of an extension API server's Service, not to its cluster IP.",
    ),
]
RejectRedirects = Annotated[
    bool,
    typer.Option(
        "--aggregator-reject-forwarding-redirect/--no-aggregator-reject-forwarding-redirect",
        help="Redirects by extension API servers are refused.",
    ),
]


def _asked(
    proxy_client_cert_file: ClientCert = None,
    proxy_client_key_file: ClientKey = None,
    enable_aggregator_routing: Routing = True,
    aggregator_reject_forwarding_redirect: RejectRedirects = True,
) -> AggregationOptions:
    if (proxy_client_cert_file is None) != (proxy_client_key_file is None):
        raise typer.BadParameter("--proxy-client-cert-file and --proxy-client-key-file must both be provided")
    return AggregationOptions(
        client_cert_file=proxy_client_cert_file,
        client_key_file=proxy_client_key_file,
        to_endpoints=enable_aggregator_routing,
        rejects_redirects=aggregator_reject_forwarding_redirect,
    )


aggregation_options = stands_for("aggregation", _asked, "Aggregation options")
