"""The order of version names: v10, v2, v1, v2beta1, v1beta2, v1alpha1, then all others by name.

After k8s.io/apimachinery `pkg/version/helpers.go` (CompareKubeAwareVersionStrings).
"""

from __future__ import annotations

import re

_KUBE = re.compile(r"v([1-9][0-9]*)(?:(alpha|beta)([1-9][0-9]*))?")
_STABILITY = {"alpha": 2, "beta": 1, None: 0}

Rank = tuple[int, int, int, str]


def by_priority(name: str) -> Rank:
    """A key for sorting, the preferred version first."""
    match = _KUBE.fullmatch(name)
    if match is None:
        return (3, 0, 0, name)
    major, stability, minor = match.groups()
    return (_STABILITY[stability], -int(major), -int(minor or 0), "")
