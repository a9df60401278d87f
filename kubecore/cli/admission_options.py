"""Options about admission that `kubecore up` and `kubecore apiserver` share."""

from __future__ import annotations

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


def _asked(
    enable_admission_plugins: EnableAdmissionPlugins = "",
    disable_admission_plugins: DisableAdmissionPlugins = "",
    admission_control_config_file: AdmissionControlConfigFile = None,
) -> AdmissionOptions:
    return options.admission(enable_admission_plugins, disable_admission_plugins, admission_control_config_file)


admission_options = stands_for("admission", _asked, "Admission options")
