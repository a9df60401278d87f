"""Objects that nobody reads in the file: kube-apiserver's flags, which `kubecore up` has too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kubecore.apiserver.storage.encryption import EncryptionOptions
from kubecore.cli import options
from kubecore.cli.option_groups import stands_for

ConfigFile = Annotated[
    Path | None, options.file("An EncryptionConfiguration: which objects are encrypted in the data directory, and how.")
]
AutomaticReload = Annotated[
    bool,
    typer.Option(
        "--encryption-provider-config-automatic-reload/--no-encryption-provider-config-automatic-reload",
        help="Read that file again when it changes.",
    ),
]


def _asked(
    encryption_provider_config: ConfigFile = None,
    encryption_provider_config_automatic_reload: AutomaticReload = False,
) -> EncryptionOptions:
    if encryption_provider_config_automatic_reload and encryption_provider_config is None:
        raise typer.BadParameter(
            "--encryption-provider-config-automatic-reload must be set with --encryption-provider-config"
        )
    return EncryptionOptions(config_file=encryption_provider_config, reload=encryption_provider_config_automatic_reload)


encryption_options = stands_for("encryption", _asked, "Encryption at rest options")
