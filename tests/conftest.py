"""What holds for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run, unless somebody goes looking: `HYPOTHESIS_PROFILE=explore make test-laws`.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

LONGEST = (
    *("e2e/test_packaging", "e2e/test_client_suites", "e2e/test_kill_nine", "e2e/test_kopf", "e2e/test_validation"),
    *("e2e/test_made_up_requests", "e2e/test_kubectl", "integration/test_virtual_day", "e2e/test_client_go"),
    *("e2e/test_kubectl_verbs", "integration/apiserver/laws/test_api_laws", "integration/controllers/test_laws"),
    *("e2e/test_components", "e2e/test_consistency", "e2e/test_ipvs", "e2e/test_definition_validation"),
    *("e2e/test_unprivileged", "e2e/test_service_clients", "e2e/test_ownership", "e2e/test_cri", "e2e/test_dual_stack"),
)
"""Files whose tests take a minute and more, in this order of several workers' work: whoever is given one of them at the
end has it to himself."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Several workers begin with what takes longest. Tests that need root are skipped for others."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = Path(__file__).parent
        places = {(folder / file).with_suffix(".py"): place for place, file in enumerate(LONGEST)}
        items.sort(key=lambda item: places.get(item.path, len(LONGEST)))
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root") is not None:
            item.add_marker(pytest.mark.skip(reason="needs root, for network namespaces and ports below 1024"))
