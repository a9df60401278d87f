"""Makes profiles from what is configured: which plugins are enabled, where, and with what arguments.

(kubernetes `framework/runtime/framework.go`, NewFramework and expandMultiPointPlugins.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubecore.scheduler import plugins
from kubecore.scheduler.framework import Bind, Plugin, QueueSort
from kubecore.scheduler.handle import Handle
from kubecore.scheduler.plugins import Factory
from kubecore.scheduler.profile import DEFAULT_NAME, EXTENSION_POINTS, Profile


class InvalidProfile(ValueError):
    """The plugins that are configured for `profile` do not make a scheduler; worded as kube-scheduler words it."""

    def __init__(self, profile: str, told: str) -> None:
        super().__init__(f"initializing profiles: creating profile for scheduler name {profile}: {told}")


@dataclass(frozen=True, slots=True)
class Enabled:
    name: str
    weight: int = 1
    """Of its score beside those of others."""


DEFAULT_PLUGINS = tuple(Enabled(name, weight) for name, weight in plugins.DEFAULT.items())


@dataclass(frozen=True, slots=True)
class PluginSet:
    """What is said of one extension point; "*" disables what multiPoint would bring."""

    enabled: tuple[Enabled, ...] = ()
    disabled: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileConfig:
    name: str = DEFAULT_NAME
    """Schedules the pods whose spec.schedulerName this is."""
    multi_point: tuple[Enabled, ...] = DEFAULT_PLUGINS
    points: Mapping[str, PluginSet] = field(default_factory=dict)
    arguments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    percentage: int | None = None
    """Of nodes to score; None: as for all profiles."""

    def names(self) -> list[tuple[str, str]]:
        """All plugins that are enabled somewhere, each once, and an extension point where."""
        found = {one.name: point for point, given in self.points.items() for one in given.enabled}
        everywhere = {one.name: "preFilter" for one in self.multi_point}
        return [(point, name) for name, point in (found | everywhere).items()]


def check_known(profiles: Sequence[ProfileConfig], registry: Mapping[str, Factory] | None = None) -> None:
    """Whether there are all plugins, among those that are installed unless `registry` has them. Raises
    InvalidProfile."""
    named = [(config.name, *one) for config in profiles for one in config.names()]
    known = registry if registry is not None else plugins.installed(name for *_, name in named)
    for profile, point, name in named:
        if name not in known:
            raise InvalidProfile(profile, f'{EXTENSION_POINTS[point].__name__}Plugin "{name}" does not exist')


def make_profile(
    config: ProfileConfig, handle: Handle, registry: Mapping[str, Factory], percentage: int = 0
) -> Profile:
    """The profile, which `handle`, a copy for this profile alone, then knows. Raises InvalidProfile."""
    handle = dataclasses.replace(handle)
    made: dict[str, Plugin] = {}
    check_known([config], registry)
    for _, name in config.names():
        try:
            made[name] = registry[name](handle, config.arguments.get(name, {}))
        except Exception as error:
            told = f"{type(error).__name__}: {error}" if isinstance(error, LookupError) else str(error)
            raise InvalidProfile(config.name, f'initializing plugin "{name}": {told}') from error
    points = {
        kind: _at(config.name, kind, config.multi_point, config.points.get(point, PluginSet()), made)
        for point, kind in EXTENSION_POINTS.items()
    }
    _check(config.name, points)
    scores = config.points.get("score", PluginSet()).enabled
    weights = {one.name: one.weight for one in (*config.multi_point, *scores)}
    own = config.percentage if config.percentage is not None else percentage
    handle.profile = Profile(points, name=config.name, weights=weights, percentage=own)
    return handle.profile


def _at(
    profile: str, kind: type[Plugin], multi_point: Sequence[Enabled], given: PluginSet, made: Mapping[str, Plugin]
) -> list[Plugin]:
    """The plugins of one extension point: first those of multiPoint that the point names itself, in its order, then
    the others of multiPoint, then the others that the point names.
    """
    own = [one.name for one in given.enabled]
    for name in own:
        if not isinstance(made[name], kind):
            raise InvalidProfile(profile, f'plugin "{name}" does not extend {kind.__name__}Plugin plugin')
    if repeated := next((name for name in own if own.count(name) > 1), None):
        raise InvalidProfile(profile, f'plugin "{repeated}" already registered as "{kind.__name__}Plugin"')
    if "*" in given.disabled:
        return [made[name] for name in own]
    everywhere = [
        one.name for one in multi_point if isinstance(made[one.name], kind) and one.name not in given.disabled
    ]
    again = [name for name in everywhere if name not in own]
    if repeated := next((name for name in again if again.count(name) > 1), None):
        raise InvalidProfile(profile, f'plugin "{repeated}" already registered as "{kind.__name__}Plugin"')
    first = [name for name in own if name in everywhere]
    return [made[name] for name in (*first, *again, *(name for name in own if name not in first))]


def _check(name: str, points: Mapping[type[Plugin], Sequence[Plugin]]) -> None:
    sorts = len(points[QueueSort])
    if sorts != 1:
        raise InvalidProfile(
            name,
            f'only one queue sort plugin required for profile with scheduler name "{name}", but got {sorts}',
        )
    if not points[Bind]:
        raise InvalidProfile(name, f'at least one bind plugin is needed for profile with scheduler name "{name}"')
