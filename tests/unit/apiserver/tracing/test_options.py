"""How a TracingConfiguration is read."""

from __future__ import annotations

import pytest

from kubecore.api.configuration_file import InvalidConfiguration
from kubecore.apiserver.tracing.options import TracingOptions, load

HEAD = "apiVersion: apiserver.config.k8s.io/v1\nkind: TracingConfiguration\n"


def test_by_default_no_trace_begins_here_and_the_collector_is_on_this_machine() -> None:
    assert load(HEAD) == TracingOptions(endpoint="localhost:4317", per_million=0)


@pytest.mark.parametrize("endpoint", ["collector:4317", "dns:///collector:4317", "unix:///run/otel.sock"])
def test_the_collector_and_how_many_are_kept_are_said(endpoint: str) -> None:
    found = load(f"{HEAD}endpoint: {endpoint}\nsamplingRatePerMillion: 100")
    assert found == TracingOptions(endpoint=endpoint, per_million=100)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("samplingRatePerMillion: -1", "Invalid value: -1: sampling rate must be positive"),
        ("samplingRatePerMillion: 1000001", "must be less than or equal to one million"),
        ("endpoint: https://collector:4317", "unsupported scheme: https"),
        ("rate: 1", 'unknown field "rate"'),
    ],
)
def test_what_is_not_right_is_told(said: str, told: str) -> None:
    with pytest.raises(InvalidConfiguration, match=told):
        load(HEAD + said)
