"""The PEP 517 backend of kubecore: bakes the API facts into the package, then maturin does the rest."""

from __future__ import annotations

from typing import Any

import bake
import maturin

_Settings = dict[str, Any] | None

get_requires_for_build_wheel = maturin.get_requires_for_build_wheel
get_requires_for_build_editable = maturin.get_requires_for_build_editable
get_requires_for_build_sdist = maturin.get_requires_for_build_sdist
prepare_metadata_for_build_wheel = maturin.prepare_metadata_for_build_wheel
prepare_metadata_for_build_editable = maturin.prepare_metadata_for_build_editable


def build_wheel(wheel_directory: str, config_settings: _Settings = None, metadata_directory: str | None = None) -> str:
    bake.bake()
    return maturin.build_wheel(wheel_directory, config_settings, metadata_directory)  # type: ignore[no-any-return]


def build_editable(
    wheel_directory: str, config_settings: _Settings = None, metadata_directory: str | None = None
) -> str:
    bake.bake()
    return maturin.build_editable(wheel_directory, config_settings, metadata_directory)  # type: ignore[no-any-return]


def build_sdist(sdist_directory: str, config_settings: _Settings = None) -> str:
    bake.bake()
    return maturin.build_sdist(sdist_directory, config_settings)  # type: ignore[no-any-return]
