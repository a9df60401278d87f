"""The completion indexes of Indexed Jobs: sets of them as `status.completedIndexes` writes them, and pods' own.

(kubernetes `pkg/controller/job/indexed_job_utils.go`.) A set is kept as sorted intervals, since a Job may have a
hundred thousand indexes of which most have succeeded.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from datetime import datetime
from typing import Self

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.controllers.pods import containers
from kubecore.controllers.workloads import pod_ranking

INDEX = "batch.kubernetes.io/job-completion-index"
FAILURES = "batch.kubernetes.io/job-index-failure-count"
IGNORED_FAILURES = "batch.kubernetes.io/job-index-ignored-failure-count"
UNKNOWN = -1

_ENVIRONMENT = "JOB_COMPLETION_INDEX"
_LARGEST = 2**31 - 1
_LONGEST_PREFIX = 58  # of a generated name: 63 less the five characters that are appended


class Indexes:
    """An immutable set of completion indexes, as sorted intervals that neither overlap nor touch."""

    __slots__ = ("_intervals",)

    def __init__(self, intervals: Iterable[tuple[int, int]] = ()) -> None:
        merged: list[tuple[int, int]] = []
        for first, last in sorted(intervals):
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(merged[-1][1], last))
            else:
                merged.append((first, last))
        self._intervals = merged

    @classmethod
    def parse(cls, text: str, completions: int) -> Self:
        """Of "1,3-5"; what is no number is passed over, and so is what reaches beyond `completions`."""
        found = []
        for part in text.split(",") if text else ():
            start, dash, end = part.partition("-")
            if not start.isdecimal() or (dash and not end.isdecimal()):
                continue
            first, last = int(start), int(end) if dash else int(start)
            if first < completions and first <= last:
                found.append((first, min(last, completions - 1)))
        return cls(found)

    def with_indexes(self, indexes: Iterable[int]) -> Indexes:
        return Indexes([*self._intervals, *((index, index) for index in indexes)])

    def union(self, other: Indexes) -> Indexes:
        return Indexes([*self._intervals, *other._intervals])

    def overlap(self, other: Indexes) -> int:
        """How many indexes are in both."""
        mine, theirs = iter(self._intervals), iter(other._intervals)
        one, two, shared = next(mine, None), next(theirs, None), 0
        while one is not None and two is not None:
            shared += max(0, min(one[1], two[1]) - max(one[0], two[0]) + 1)
            if one[1] <= two[1]:
                one = next(mine, None)
            else:
                two = next(theirs, None)
        return shared

    def missing(self, completions: int, count: int) -> list[int]:
        """The first `count` indexes below `completions` that are not in the set."""
        found: list[int] = []
        candidate = 0
        for first, last in [*self._intervals, (completions, completions)]:
            end = min(first, completions, candidate + count - len(found))
            found.extend(range(candidate, end))
            if len(found) >= count:
                break
            candidate = max(candidate, last + 1)
        return found

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self._intervals)

    def __contains__(self, index: int) -> bool:
        at = bisect_left(self._intervals, index, key=lambda interval: interval[1])
        return at < len(self._intervals) and self._intervals[at][0] <= index

    def __str__(self) -> str:
        parts = []
        for first, last in self._intervals:
            # two neighbours are shorter with a comma
            parts.append(str(first) if first == last else f"{first}{',' if last == first + 1 else '-'}{last}")
        return ",".join(parts)


def index_of(pod: Object) -> int:
    """The pod's completion index; UNKNOWN where it has none, or none that is a number."""
    text = meta.annotations(pod).get(INDEX, "")
    return int(text) if text.isdecimal() else UNKNOWN


def has_valid_index(pod: Object, completions: int) -> bool:
    return UNKNOWN != index_of(pod) < completions


def indexes_of(pods: Iterable[Object]) -> set[int]:
    return {index for index in map(index_of, pods) if index != UNKNOWN}


def failures_before(pod: Object) -> int:
    """How many pods of its index had failed before this one, in a way that counts."""
    return _count(pod, FAILURES)


def all_failures_before(pod: Object) -> int:
    return _count(pod, FAILURES) + _count(pod, IGNORED_FAILURES)


def ignored_failures_before(pod: Object) -> int:
    return _count(pod, IGNORED_FAILURES)


def _count(pod: Object, annotation: str) -> int:
    text = meta.annotations(pod).get(annotation, "")
    value = int(text) if text.isdecimal() else 0
    return value if value <= _LARGEST else 0


def duplicates(pods: list[Object], completions: int, now: datetime) -> tuple[list[Object], list[Object]]:
    """Active pods that no index needs (no index, one out of range, or one that another pod has), and the rest."""
    surplus: list[Object] = []
    left: list[Object] = []
    by_index: dict[int, list[Object]] = {}
    for pod in pods:
        if has_valid_index(pod, completions):
            by_index.setdefault(index_of(pod), []).append(pod)
        else:
            surplus.append(pod)
    for _, group in sorted(by_index.items()):
        extra = pod_ranking.choose(group, (), len(group) - 1, now) if len(group) > 1 else []
        surplus += extra
        gone = {meta.uid(pod) for pod in extra}
        left += [pod for pod in group if meta.uid(pod) not in gone]
    return surplus, left


def give_environment(template: Object) -> None:
    """Every container of the template learns its index from JOB_COMPLETION_INDEX, unless it sets that itself."""
    pod = template["spec"]
    source = {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.labels['{INDEX}']"}}
    for container in [*(pod.get("initContainers") or ()), *containers(template)]:
        environment = container.setdefault("env", [])
        if all(variable["name"] != _ENVIRONMENT for variable in environment):
            environment.append({"name": _ENVIRONMENT, "valueFrom": source})


def give_index(template: Object, job_name: str, index: int) -> None:
    metadata = template.setdefault("metadata", {})
    for field in ("annotations", "labels"):
        metadata[field] = {**(metadata.get(field) or {}), INDEX: str(index)}
    template["spec"]["hostname"] = f"{job_name}-{index}"


def name_prefix(job_name: str, index: int) -> str:
    """What the generated name of the index's pods begins with."""
    suffix = f"-{index}-"
    return job_name[: _LONGEST_PREFIX - len(suffix)] + suffix
