"""What the server says that it is."""

from __future__ import annotations

import platform

import orjson

from kubecore import _native

MINOR = 35
"""Of Kubernetes 1, whose API is served."""

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def version_info() -> bytes:
    """The body of /version."""
    return orjson.dumps(
        {
            "major": "1",
            "minor": str(MINOR),
            "emulationMajor": "1",
            "emulationMinor": str(MINOR),
            "minCompatibilityMajor": "1",
            "minCompatibilityMinor": str(MINOR - 1),
            "gitVersion": f"v1.{MINOR}.0+kubecore-{_native.__version__}",
            "gitCommit": "",
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "none",
            "compiler": "rustc",
            "platform": f"linux/{_ARCHITECTURES.get(platform.machine(), platform.machine())}",
        },
        option=orjson.OPT_INDENT_2,
    )
