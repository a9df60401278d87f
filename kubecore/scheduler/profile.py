"""What schedules the pods of one scheduler name: which plugins run at which extension point, and their weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar, cast

from kubecore.scheduler.framework import (
    Bind,
    Filter,
    Permit,
    Plugin,
    PostBind,
    PostFilter,
    PreBind,
    PreEnqueue,
    PreFilter,
    PreScore,
    QueueSort,
    Reserve,
    Score,
)

EXTENSION_POINTS: Mapping[str, type[Plugin]] = {
    "preEnqueue": PreEnqueue,
    "queueSort": QueueSort,
    "preFilter": PreFilter,
    "filter": Filter,
    "postFilter": PostFilter,
    "preScore": PreScore,
    "score": Score,
    "reserve": Reserve,
    "permit": Permit,
    "preBind": PreBind,
    "bind": Bind,
    "postBind": PostBind,
}
"""By their names in a KubeSchedulerConfiguration."""

DEFAULT_NAME = "default-scheduler"

_P = TypeVar("_P", bound=Plugin)


class Profile:
    """`percentage` of the nodes are looked for before the best is chosen; 0 lets their number decide."""

    def __init__(
        self,
        points: Mapping[type[Plugin], Sequence[Plugin]],
        *,
        name: str = DEFAULT_NAME,
        weights: Mapping[str, int] | None = None,
        percentage: int = 0,
    ) -> None:
        self.name = name
        self.percentage = percentage
        self._points = points
        self._weights = weights or {}

    @classmethod
    def of(cls, plugins: Sequence[Plugin], *, name: str = DEFAULT_NAME, percentage: int = 0) -> Profile:
        """Each plugin at all points that it implements, in the given order."""
        points = {point: [one for one in plugins if isinstance(one, point)] for point in EXTENSION_POINTS.values()}
        return cls(points, name=name, percentage=percentage)

    def at(self, point: Callable[..., _P]) -> Sequence[_P]:
        """The plugins that run at an extension point, in order. (For mypy an abstract class is no `type[_P]`.)"""
        return cast(Sequence[_P], self._points.get(cast(type[Plugin], point), ()))

    def plugins(self) -> list[Plugin]:
        """All plugins of the profile, each once."""
        return list({id(plugin): plugin for plugins in self._points.values() for plugin in plugins}.values())

    def weight(self, plugin: Score) -> int:
        return self._weights.get(plugin.name, plugin.weight)
