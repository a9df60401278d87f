"""What holds for all tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# The same examples in every run, unless somebody goes looking: `HYPOTHESIS_PROFILE=explore make test-laws`.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need root are skipped for others."""
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root") is not None:
            item.add_marker(pytest.mark.skip(reason="needs root, for network namespaces and ports below 1024"))
