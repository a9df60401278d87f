"""Jobs: the labels of their pods, which are made for them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.apiserver.registry.writing import Writer, changed

JOBS = Writer("jobs.batch")
PREFIXED = ("batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name")
PLAIN = ("controller-uid", "job-name")


def job() -> dict[str, Any]:
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}
    return {"metadata": {"name": "x", "uid": "u"}, "spec": {"template": {"spec": pod}}}


def labelled(stored: dict[str, Any], *names: str) -> dict[str, Any]:
    """The Job with no more of its pods' labels than these, and a selector that selects any."""
    labels = stored["spec"]["template"]["metadata"]["labels"]
    kept = {name: labels[name] for name in names}
    return changed(changed(stored, "spec.template.metadata.labels", kept), "spec.selector", {})


@pytest.mark.parametrize(
    ("before", "required"), [((*PLAIN, *PREFIXED), (*PLAIN, *PREFIXED)), (PLAIN, PLAIN), ((*PLAIN, PREFIXED[0]), PLAIN)]
)
def test_labels_without_a_prefix_are_enough_where_there_was_none(
    before: tuple[str, ...], required: tuple[str, ...]
) -> None:
    whole = JOBS.create(job())
    found = JOBS.update_problems(labelled(whole, *before), labelled(whole))
    told = [f"spec.template.metadata.labels[{name}]: Required value: must be" for name in required]
    assert [problem.rpartition(" ")[0] for problem in found if "Required value" in problem] == told
