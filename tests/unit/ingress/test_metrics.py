"""What the proxy counts, as Prometheus reads it."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from kubecore.ingress.metrics import render

STATISTICS: dict[str, Any] = {"statuses": [(200, 3)], "backends": [("default/web:80", [0, 0, 3], 5)]}


def test_no_two_families_have_one_name_in_open_metrics() -> None:
    text = render(defaultdict(int, STATISTICS)).decode()
    families = [name.removesuffix("_total") for name in re.findall(r"^# TYPE (\S+)", text, re.M)]
    assert "kubecore_ingress_open_connections" in families
    assert len(families) == len(set(families))
