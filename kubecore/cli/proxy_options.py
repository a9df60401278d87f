"""Options about Services that `kubecore up` and single components share."""

from __future__ import annotations

from typing import Annotated

import typer

from kubecore.cli import options


def _scheduler(text: str) -> str:
    from kubecore import _native

    return options.one_of(_native.schedulers())(text)


IpvsScheduler = Annotated[
    str,
    typer.Option(
        callback=_scheduler,
        help="How endpoints are picked where a Service's annotation kubecore.dev/scheduler does not say it: rr, wrr, "
        "lc, wlc, sh, dh, sed, nq, lblc, mh, fo, ovf. Mode nftables: by chance, or by the client's address (sh).",
    ),
]
LoadBalancerCIDR = Annotated[
    str,
    typer.Option(
        "--load-balancer-cidr",
        callback=options.networks,
        help="Ranges that Services of type LoadBalancer get addresses from, comma separated. By default `kubecore up` "
        "takes one of its own, and `kubecore controller-manager` gives none.",
    ),
]
RuntimeConfig = Annotated[
    str,
    typer.Option(
        callback=options.runtime_config,
        help="API versions to serve or not, comma separated KEY=true|false: api/beta, api/alpha, api/ga, api/all, "
        "GROUP/VERSION or GROUP/VERSION/RESOURCE. By default stable versions are served, beta and alpha ones are not.",
    ),
]
