"""What the server says that it is."""

from __future__ import annotations

import platform

import orjson

from kubecore import _native
from kubecore.metrics import Gauge, Named

MINOR = 35
"""Of Kubernetes 1, whose API is served."""

_BUILD_LABELS = {
    "major": "major",
    "minor": "minor",
    "gitVersion": "git_version",
    "gitCommit": "git_commit",
    "gitTreeState": "git_tree_state",
    "buildDate": "build_date",
    "goVersion": "go_version",
    "compiler": "compiler",
    "platform": "platform",
}
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def _info() -> dict[str, str]:
    return {
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
    }


def version_info() -> bytes:
    """The body of /version."""
    return orjson.dumps(_info(), option=orjson.OPT_INDENT_2)


def build_info() -> Gauge:
    """The same as a metric (component-base `metrics/prometheus/version`)."""
    told = (
        "[ALPHA] A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, "
        "build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running."
    )
    gauge, info = Gauge(Named("kubernetes_build_info", told, tuple(_BUILD_LABELS.values()))), _info()
    gauge.set(1, *(info[field] for field in _BUILD_LABELS))
    return gauge
