"""Reads a KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1), as `kubecore scheduler --config` takes it.

Defaults and complaints are kube-scheduler's (kubernetes `pkg/scheduler/apis/config`). What concerns its own process
and not the scheduling of pods is checked and has no effect: parallelism, clientConnection, profiling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kubecore.api import configuration_file, durations
from kubecore.api.configuration_file import Duration, InvalidConfiguration, complain, misfits
from kubecore.api.errors import Cause, FieldError, aggregated
from kubecore.scheduler import extender_configuration, plugin_arguments
from kubecore.scheduler.extender import ExtenderConfig
from kubecore.scheduler.profile import DEFAULT_NAME, EXTENSION_POINTS
from kubecore.scheduler.profiles import DEFAULT_PLUGINS, Enabled, PluginSet, ProfileConfig
from kubecore.scheduler.queue import BackOff
from kubecore.scheduler.scheduler import SchedulerConfig

JSON = dict[str, Any]

API_VERSION = "kubescheduler.config.k8s.io/v1"
KIND = "KubeSchedulerConfiguration"

_REMOVED_PLUGINS = ("AzureDiskLimits", "CinderLimits", "EBSLimits", "GCEPDLimits")
# The version is the one that upstream names here: that of core, and not of its configuration.
_REMOVED = f'was invalid in version "v1" ({KIND} is version "{API_VERSION}")'
_LEASE_TIMES = {"leaseDuration": 15.0, "renewDeadline": 10.0, "retryPeriod": 2.0}
_PLUGIN_SET = {"enabled": [{"name": str, "weight": int}], "disabled": [{"name": str, "weight": int}]}
_FIELDS: Mapping[str, Any] = {
    "parallelism": int,
    "leaderElection": {
        "leaderElect": bool,
        "leaseDuration": Duration,
        "renewDeadline": Duration,
        "retryPeriod": Duration,
        "resourceLock": str,
        "resourceName": str,
        "resourceNamespace": str,
    },
    "clientConnection": {"kubeconfig": str, "acceptContentTypes": str, "contentType": str, "qps": float, "burst": int},
    "enableProfiling": bool,
    "enableContentionProfiling": bool,
    "percentageOfNodesToScore": int,
    "podInitialBackoffSeconds": int,
    "podMaxBackoffSeconds": int,
    "profiles": [
        {
            "schedulerName": str,
            "percentageOfNodesToScore": int,
            "plugins": {"multiPoint": _PLUGIN_SET, **dict.fromkeys(EXTENSION_POINTS, _PLUGIN_SET)},
            "pluginConfig": [{"name": str, "args": dict}],
        }
    ],
    "extenders": [extender_configuration.FIELDS],
    "delayCacheUntilActive": bool,
}


def load(text: str) -> SchedulerConfig:
    """From YAML or JSON. Raises InvalidConfiguration."""
    given = _decoded(text)
    profiles = [_profile_with_defaults(one) for one in given.get("profiles") or [{}]]
    if len(profiles) == 1 and profiles[0].get("schedulerName") is None:
        profiles[0]["schedulerName"] = DEFAULT_NAME
    if causes := _problems(given, profiles):
        told = [str(cause) for cause in causes]
        raise InvalidConfiguration(aggregated(told))
    _ignore(extender_configuration.ignored_resources(given.get("extenders") or ()), profiles)
    return SchedulerConfig(
        profiles=tuple(map(_profile, profiles)),
        extenders=tuple(map(_extender, given.get("extenders") or ())),
        back_off=BackOff(*_back_off(given)),
        percentage=given.get("percentageOfNodesToScore") or 0,
        leader_election=_given_of_election(given.get("leaderElection") or {}),
    )


# ---------------------------------------------------------------------- decoding
def _decoded(text: str) -> JSON:
    given = configuration_file.read(text, KIND, {API_VERSION: _FIELDS})
    if again := configuration_file.repeated(text):
        complain([again])
    for index, profile in enumerate(given.get("profiles") or ()):
        for position, one in enumerate(profile.get("pluginConfig") or ()):
            where = f"decoding .profiles[{index}].pluginConfig[{position}]: "
            try:
                found = _misfits_of_arguments(one)
            except InvalidConfiguration as error:
                raise InvalidConfiguration(f"{where}{error}") from None
            complain(found, prefix=f"{where}strict decoding error: ")
    return given


def _misfits_of_arguments(given: JSON) -> list[str]:
    """Those of plugins of other packages are their own affair. Raises InvalidConfiguration for arguments of another
    kind."""
    name, args = given.get("name", ""), given.get("args")
    fields = plugin_arguments.FIELDS.get(name)
    if fields is None or not args:
        return []
    version, kind = args.get("apiVersion") or API_VERSION, args.get("kind") or f"{name}Args"
    if version != API_VERSION or kind.removesuffix("Args") not in plugin_arguments.FIELDS:
        told = f'no kind "{kind}" is registered for version "{version}"'
        raise InvalidConfiguration(f"decoding args for plugin {name}: {told}")
    if kind != f"{name}Args":
        group = API_VERSION.partition("/")[0]
        raise InvalidConfiguration(f"args for plugin {name} were not of type {name}Args.{group}, got {kind}.{group}")
    try:
        found = misfits(args, {"apiVersion": str, "kind": str, **fields}, "")
    except InvalidConfiguration as error:
        raise InvalidConfiguration(f"decoding args for plugin {name}: {error}") from None
    return [f"decoding args for plugin {name}: strict decoding error: {one}" for one in found]


# ---------------------------------------------------------------------- defaults
def _profile_with_defaults(given: JSON) -> JSON:
    """Arguments that are not given are not added: plugins have the same defaults."""
    config = []
    for one in given.get("pluginConfig") or ():
        args = {name: value for name, value in (one.get("args") or {}).items() if name not in ("apiVersion", "kind")}
        config.append({"name": one.get("name", ""), "args": plugin_arguments.with_defaults(one.get("name", ""), args)})
    return given | {"pluginConfig": config}


def _back_off(given: JSON) -> tuple[int, int]:
    initial, most = given.get("podInitialBackoffSeconds"), given.get("podMaxBackoffSeconds")
    return (1 if initial is None else initial, 10 if most is None else most)


# ---------------------------------------------------------------------- checking
def _problems(given: JSON, profiles: Sequence[JSON]) -> list[Cause]:
    found: list[Cause] = []
    burst = (given.get("clientConnection") or {}).get("burst") or 0
    if burst < 0:
        found.append(FieldError.invalid("clientConnection.burst", burst, "must be non-negative"))
    found += _election_problems(given.get("leaderElection") or {})
    if given.get("parallelism", 16) <= 0:
        detail = "should be an integer value greater than zero"
        found.append(FieldError.invalid("parallelism", given["parallelism"], detail))
    names: dict[str, int] = {}
    for index, profile in enumerate(profiles):
        path, name = f"profiles[{index}]", profile.get("schedulerName") or ""
        found += _profile_problems(profile, path)
        if name in names:
            found.append(FieldError.duplicate(f"{path}.schedulerName", f"profiles[{names[name]}].schedulerName"))
        names[name] = index
    found += _sort_problems(profiles)
    found += _percentage_problems(given, "percentageOfNodesToScore")
    initial, most = _back_off(given)
    if initial <= 0:
        found.append(FieldError.invalid("podInitialBackoffSeconds", initial, "must be greater than 0"))
    if most < initial:
        detail = "must be greater than or equal to PodInitialBackoffSeconds"
        found.append(FieldError.invalid("podMaxBackoffSeconds", most, detail))
    return found + extender_configuration.problems(given.get("extenders") or ())


def _given_of_election(given: JSON) -> JSON:
    """A time of nothing is one that is not given."""
    return {
        field: value for field, value in given.items() if field not in _LEASE_TIMES or durations.seconds(value or "0s")
    }


def _election_problems(given: JSON) -> list[Cause]:
    """Whoever is not to elect a leader may say what they like. (component-base `config/validation`.)"""
    if given.get("leaderElect") is False:
        return []
    found: list[Cause] = []
    lengths: dict[str, float] = {}
    for field, default in _LEASE_TIMES.items():
        lengths[field] = durations.seconds(given.get(field) or "0s") or default
        if lengths[field] < 0:
            shown = durations.text(lengths[field])
            found.append(FieldError.invalid(f"leaderElection.{field}", shown, "must be greater than zero"))
    if lengths["leaseDuration"] <= lengths["renewDeadline"]:
        # upstream shows the one and names the other
        shown = durations.text(lengths["renewDeadline"])
        found.append(FieldError.invalid("leaderElection.leaseDuration", shown, "must be greater than `RenewDeadline`"))
    if (lock := given.get("resourceLock") or "leases") != "leases":
        found.append(FieldError.invalid("leaderElection.resourceLock", lock, 'resourceLock value must be "leases"'))
    return found


def _percentage_problems(holder: JSON, path: str) -> list[Cause]:
    value = holder.get("percentageOfNodesToScore")
    if value is None or 0 <= value <= 100:
        return []
    return [FieldError.invalid(path, value, "not in valid range [0-100]")]


def _profile_problems(profile: JSON, path: str) -> list[Cause]:
    found: list[Cause] = []
    if not profile.get("schedulerName"):
        found.append(FieldError.required(f"{path}.schedulerName"))
    found += _percentage_problems(profile, f"{path}.percentageOfNodesToScore")
    plugins = profile.get("plugins") or {}
    for point in EXTENSION_POINTS:
        for index, one in enumerate((plugins.get(point) or {}).get("enabled") or ()):
            if one.get("name") in _REMOVED_PLUGINS:
                where = f"{path}.plugins.{point}.enabled[{index}]"
                found.append(FieldError.invalid(where, one["name"], _REMOVED))
    seen = set()
    for index, one in enumerate(profile["pluginConfig"]):
        name, where = one["name"], f"{path}.pluginConfig[{index}]"
        if name in seen:
            found.append(FieldError.duplicate(where, name))
        seen.add(name)
        if name in _REMOVED_PLUGINS:
            found.append(FieldError.invalid(where, name, _REMOVED))
        else:
            found += plugin_arguments.problems(name, one["args"], f"{where}.args")
    return found


def _sort_problems(profiles: Sequence[JSON]) -> list[Cause]:
    """All profiles share one queue."""
    sets = [(profile.get("plugins") or {}).get("queueSort") or {} for profile in profiles]
    count = len(sets[0].get("enabled") or ())
    found = []
    if count > 1:
        path = "profiles[0].plugins.queueSort.Enabled"
        found.append(FieldError.invalid(path, count, "only one queue sort plugin can be enabled"))
    for index, one in enumerate(sets):
        if one != sets[0]:
            path = f"profiles[{index}].plugins.queueSort"
            found.append(FieldError.invalid(path, one, "must be the same for all profiles"))
    return found + (_sort_argument_problems(profiles, sets[0]["enabled"][0].get("name")) if count else [])


def _sort_argument_problems(profiles: Sequence[JSON], plugin: str) -> list[Cause]:
    arguments = [[one["args"] for one in profile["pluginConfig"] if one["name"] == plugin] for profile in profiles]
    common = arguments[0][-1] if arguments[0] else None
    return [
        FieldError.invalid(f"profiles[{index}].pluginConfig.args", args, "queueSort must be the same for all profiles")
        for index, every in enumerate(arguments[1:], 1)
        for args in every
        if args != common
    ]


# ---------------------------------------------------------------------- extenders
def _extender(given: JSON) -> ExtenderConfig:
    try:
        return extender_configuration.made(given)
    except ValueError as error:
        raise InvalidConfiguration(f"couldn't build extenders: {error}") from None


def _ignore(resources: Sequence[str], profiles: Sequence[JSON]) -> None:
    """NodeResourcesFit of no profile looks at what extenders look after, whatever else it was to ignore."""
    if not resources:
        return
    for profile in profiles:
        config = profile["pluginConfig"]
        known = next((one for one in config if one["name"] == "NodeResourcesFit"), None)
        if known is None:
            known = {"name": "NodeResourcesFit", "args": plugin_arguments.with_defaults("NodeResourcesFit", {})}
            config.append(known)
        known["args"] = known["args"] | {"ignoredResources": list(resources)}


# ---------------------------------------------------------------------- profiles
def _profile(given: JSON) -> ProfileConfig:
    plugins = given.get("plugins") or {}
    return ProfileConfig(
        name=given["schedulerName"],
        multi_point=_multi_point(plugins.get("multiPoint") or {}),
        points={point: _plugin_set(plugins[point]) for point in EXTENSION_POINTS if plugins.get(point)},
        arguments={one["name"]: one["args"] for one in given["pluginConfig"]},
        percentage=given.get("percentageOfNodesToScore"),
    )


def _plugin_set(given: JSON) -> PluginSet:
    return PluginSet(_enabled(given), frozenset(one.get("name", "") for one in given.get("disabled") or ()))


def _enabled(given: JSON) -> tuple[Enabled, ...]:
    return tuple(Enabled(one.get("name", ""), one.get("weight") or 1) for one in given.get("enabled") or ())


def _multi_point(given: JSON) -> tuple[Enabled, ...]:
    """The default plugins but those disabled, those anew that are given anew, then the others."""
    custom, disabled = _enabled(given), _plugin_set(given).disabled
    if "*" in disabled:
        return custom
    # the last one counts; those before it make the plugin one that is given twice
    anew = {one.name: index for index, one in enumerate(custom)}
    kept = [one for one in DEFAULT_PLUGINS if one.name not in disabled]
    replacing = {anew[one.name] for one in kept if one.name in anew}
    in_place = [custom[anew[one.name]] if one.name in anew else one for one in kept]
    return (*in_place, *(one for index, one in enumerate(custom) if index not in replacing))
