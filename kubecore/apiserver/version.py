"""What the server says that it is."""

from __future__ import annotations

import platform

import orjson

from kubecore import _native

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def version_info() -> bytes:
    """The body of /version."""
    return orjson.dumps(
        {
            "major": "1",
            "minor": "35",
            "emulationMajor": "1",
            "emulationMinor": "35",
            "minCompatibilityMajor": "1",
            "minCompatibilityMinor": "34",
            "gitVersion": f"v1.35.0+kubecore-{_native.__version__}",
            "gitCommit": "",
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "none",
            "compiler": "rustc",
            "platform": f"linux/{_ARCHITECTURES.get(platform.machine(), platform.machine())}",
        },
        option=orjson.OPT_INDENT_2,
    )
