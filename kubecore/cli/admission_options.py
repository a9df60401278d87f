"""Options about admission that `kubecore up` and `kubecore apiserver` share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from kubecore.apiserver.admission import names
from kubecore.apiserver.admission.options import AdmissionOptions
from kubecore.cli import options
from kubecore.cli.option_groups import stands_for

EnableAdmissionPlugins = Annotated[
    str,
    typer.Option(
        help=f"Admission plugins besides those on by default, comma separated: {', '.join(names.OFF)}.",
    ),
]
DisableAdmissionPlugins = Annotated[
    str,
    typer.Option(
        help=f"Admission plugins that are on by default and should not be, comma separated: {', '.join(names.ON)}.",
    ),
]
AdmissionControlConfigFile = Annotated[
    Path | None,
    typer.Option(help="An AdmissionConfiguration (apiserver.config.k8s.io/v1): what admission plugins are told."),
]

NotReadySeconds = Annotated[
    int, typer.Option(help="Seconds that pods which say nothing of it stay on a node that is not ready.")
]
UnreachableSeconds = Annotated[int, typer.Option(help="The same of a node that cannot be reached.")]


def _asked(
    enable_admission_plugins: EnableAdmissionPlugins = "",
    disable_admission_plugins: DisableAdmissionPlugins = "",
    admission_control_config_file: AdmissionControlConfigFile = None,
    default_not_ready_toleration_seconds: NotReadySeconds = 300,
    default_unreachable_toleration_seconds: UnreachableSeconds = 300,
) -> AdmissionOptions:
    found = options.admission(enable_admission_plugins, disable_admission_plugins, admission_control_config_file)
    return replace(
        found,
        not_ready_seconds=default_not_ready_toleration_seconds,
        unreachable_seconds=default_unreachable_toleration_seconds,
    )


admission_options = stands_for("admission", _asked, "Admission options")
