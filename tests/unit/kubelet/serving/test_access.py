"""Which of a node's subresources a path of its kubelet is."""

from __future__ import annotations

import pytest

from kubecore.kubelet.serving.access import subresources


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/stats/summary", ("stats",)),
        ("/metrics", ("metrics",)),
        ("/metrics/cadvisor", ("metrics",)),
        ("/metrics/slis", ("metrics",)),
        ("/logs/containers/", ("log",)),
        ("/checkpoint/ns/pod/container", ("checkpoint",)),
        ("/statusz", ("statusz",)),
        ("/flagz", ("configz",)),
        ("/pods", ("pods", "proxy")),
        ("/runningpods/", ("pods", "proxy")),
        ("/healthz/syncloop", ("healthz", "proxy")),
        ("/configz", ("configz", "proxy")),
        ("/metricsx", ("proxy",)),
        ("/exec/ns/pod/container", ("proxy",)),
        ("/", ("proxy",)),
    ],
)
def test_a_path_asks_for_what_upstream_asks_for(path: str, expected: tuple[str, ...]) -> None:
    assert subresources(path) == expected
