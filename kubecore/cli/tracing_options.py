"""Where traces of requests go: kube-apiserver's flag, which `kubecore up` has too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kubecore.api.configuration_file import InvalidConfiguration
from kubecore.apiserver.tracing import options as tracing
from kubecore.apiserver.tracing.options import TracingOptions
from kubecore.cli import options
from kubecore.cli.option_groups import stands_for

ConfigFile = Annotated[
    Path | None,
    options.file("A TracingConfiguration: the collector of OpenTelemetry that traces of requests are sent to."),
]


def _asked(tracing_config_file: ConfigFile = None) -> TracingOptions | None:
    """Raises BadParameter in kube-apiserver's words."""
    if tracing_config_file is None:
        return None
    try:
        return tracing.load(tracing_config_file.read_text())
    except OSError as error:
        told = f'unable to read tracing configuration from "{tracing_config_file}": {error}'
    except (InvalidConfiguration, UnicodeDecodeError) as error:
        told = f"unable to decode tracing configuration data: {error}"
    raise typer.BadParameter(f"failed to read tracing config: {told}", param_hint="'--tracing-config-file'")


tracing_options = stands_for("tracing", _asked, "Tracing options")
