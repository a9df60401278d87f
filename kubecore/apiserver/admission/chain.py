"""The admission chain: mutating plugins in order, later validating ones, over each write; last those that may wait.

A plugin is a small class of its own file that says which requests it handles; the chain of a (resource, operation,
subresource) is computed once. Plugins look at other objects through the context; what must wait for something (a quota
to be charged, somebody else's answer) comes in `decide`, when nothing else is left that could refuse the write. What is
on its way and needed by `mutate` is waited for in `expect`, before anything is done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from kubecore.api.errors import StatusError
from kubecore.apiserver.admission.metrics import ADMIT, QUICK, VALIDATE, AdmissionMetrics
from kubecore.metrics import MoreOf

if TYPE_CHECKING:
    from kubecore.apiserver.admission.dynamic.admission import DynamicAdmission
    from kubecore.apiserver.registry.strategy import RequestContext
    from kubecore.metrics import Series

JSON = dict[str, Any]

CREATE, UPDATE, DELETE, CONNECT = "CREATE", "UPDATE", "DELETE", "CONNECT"


class Plugin:
    """Base of all plugins: handles nothing, does nothing."""

    name: str = ""

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return False

    def expect(self, ctx: RequestContext, obj: JSON) -> Awaitable[None] | None:
        """Of a CREATE: what must be there before `mutate` and is about to come; None when nothing is missing."""
        return None

    def mutate(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> bool:
        """Changes `obj` in place; True when what it put there is to be defaulted. Raises StatusError to refuse."""
        return False

    def validate(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        """Raises StatusError to refuse. `obj` is None for a DELETE, `old` for a CREATE."""

    def decide(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> Awaitable[None] | None:
        """The last word, by a plugin that may have to wait for it; None when there is nothing to wait for.

        Raises StatusError to refuse, at once or when awaited. What must be told how the write ended puts that into
        `ctx.finish`."""
        return None

    async def close(self) -> None:
        """Lets go of what it holds open; called once, at the end."""


# The name of a plugin, its method, and the series of the calls that it lets pass.
_Counted = tuple[str, Callable[..., Any], "Series"]
# Resource, operation, subresource.
_Key = tuple[str, str, str]


class AdmissionChain:
    """All plugins, in the order Kubernetes runs them.

    What mutates comes in up to two parts (`mutate`, webhooks and policies), what validates in three (`validate`,
    webhooks and policies, `decide`), which are one step each to whoever looks at metrics: each part adds its time to
    the context's, and the last one has it counted."""

    def __init__(self, plugins: Sequence[Plugin], metrics: AdmissionMetrics | None = None) -> None:
        self.plugins = tuple(plugins)
        # Webhooks and policies, once there is a server to call them.
        self.dynamic: DynamicAdmission | None = None
        self.metrics = metrics or AdmissionMetrics()
        self._expecting: dict[_Key, tuple[Plugin, ...]] = {}
        self._mutating: dict[_Key, tuple[_Counted, ...]] = {}
        self._validating: dict[_Key, tuple[_Counted, ...]] = {}
        self._deciding: dict[_Key, tuple[_Counted, ...]] = {}

    @property
    def asked(self) -> DynamicAdmission | None:
        """Webhooks and policies, where there are any at present."""
        dynamic = self.dynamic
        return dynamic if dynamic is not None and dynamic.awake else None

    def expect(self, ctx: RequestContext, obj: JSON) -> Awaitable[None] | None:
        """None when nothing has to be waited for, as for most writes."""
        key = (ctx.resource_key, ctx.operation, ctx.subresource)
        plugins = self._expecting.get(key)
        if plugins is None:
            plugins = self._expecting[key] = self._overriding("expect", key)
        if not plugins:
            return None
        coming = [one for plugin in plugins if (one := plugin.expect(ctx, obj)) is not None]
        return _all(coming) if coming else None

    def mutate(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> bool:
        key = (ctx.resource_key, ctx.operation, ctx.subresource)
        plugins = self._mutating.get(key)
        if plugins is None:
            plugins = self._mutating[key] = self._counted("mutate", ADMIT, key)
        wants_defaults, seconds = self._run(plugins, ADMIT, ctx, obj, old)
        ctx.admit_seconds += seconds
        if self.dynamic is None or not self.dynamic.awake:
            self.metrics.admitted(ctx)
        return wants_defaults

    def validate(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        key = (ctx.resource_key, ctx.operation, ctx.subresource)
        plugins = self._validating.get(key)
        if plugins is None:
            plugins = self._validating[key] = self._counted("validate", VALIDATE, key)
        _, ctx.validate_seconds = self._run(plugins, VALIDATE, ctx, obj, old)

    def _run(
        self, plugins: Sequence[_Counted], type_: str, ctx: RequestContext, obj: JSON | None, old: JSON | None
    ) -> tuple[bool, float]:
        """Each in its turn, timed: whether one says yes, and how long all took."""
        monotonic = ctx.clock.monotonic
        began = before = monotonic()
        any_says_yes, name = False, ""
        try:
            for name, call, series in plugins:  # noqa: B007  (told when it refuses)
                any_says_yes = call(ctx, obj, old) or any_says_yes
                now = monotonic()
                if (took := now - before) <= QUICK:
                    series.quick += 1
                    series.seconds += took
                else:
                    series.observe(took)
                before = now
        except StatusError:
            self._refused(name, type_, ctx, before, began)
            raise
        return any_says_yes, before - began

    def decide(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> Awaitable[None] | None:
        """None when nobody has to be waited for, which is what most writes hear."""
        key = (ctx.resource_key, ctx.operation, ctx.subresource)
        plugins = self._deciding.get(key)
        if plugins is None:
            plugins = self._deciding[key] = self._counted("decide", VALIDATE, key)
        monotonic = ctx.clock.monotonic
        before = monotonic()
        began = before - ctx.validate_seconds
        name = ""
        try:
            for number, (name, decide, series) in enumerate(plugins, 1):
                if (waiting := decide(ctx, obj, old)) is not None:
                    return self._decide(waiting, name, series, plugins[number:], ctx, obj, old, before, began)
                now = monotonic()
                series.observe(now - before)
                before = now
        except StatusError:
            self._refused(name, VALIDATE, ctx, before, began)
            raise
        ctx.validate_seconds = before - began
        self.metrics.validated(ctx)
        return None

    async def _decide(
        self,
        waiting: Awaitable[None] | None,
        name: str,
        series: Series,
        rest: Sequence[_Counted],
        ctx: RequestContext,
        obj: JSON | None,
        old: JSON | None,
        before: float,
        began: float,
    ) -> None:
        """The same from a plugin on that has to be waited for."""
        monotonic = ctx.clock.monotonic
        try:
            for following in (*rest, None):
                if waiting is not None:
                    await waiting
                now = monotonic()
                series.observe(now - before)
                before = now
                if following is not None:
                    name, decide, series = following
                    waiting = decide(ctx, obj, old)
        except StatusError:
            self._refused(name, VALIDATE, ctx, before, began)
            raise
        ctx.validate_seconds = before - began
        self.metrics.validated(ctx)

    def _refused(self, name: str, type_: str, ctx: RequestContext, before: float, began: float) -> None:
        now = ctx.clock.monotonic()
        self.metrics.refused(name, type_, ctx.operation, plugin_seconds=now - before, step_seconds=now - began)

    async def close(self) -> None:
        for plugin in self.plugins:
            await plugin.close()

    def _counted(self, method: str, type_: str, key: _Key) -> tuple[_Counted, ...]:
        def series(plugin: Plugin) -> Series:
            found = self.metrics.plugins(plugin.name, type_, key[1])
            # Who validates and decides is one plugin all the same.
            return MoreOf(found) if method == "decide" and type(plugin).validate is not Plugin.validate else found

        return tuple((one.name, getattr(one, method), series(one)) for one in self._overriding(method, key))

    def _overriding(self, method: str, key: _Key) -> tuple[Plugin, ...]:
        base = getattr(Plugin, method)
        return tuple(
            plugin for plugin in self.plugins if getattr(type(plugin), method) is not base and plugin.handles(*key)
        )


async def _all(coming: Sequence[Awaitable[None]]) -> None:
    for one in coming:
        await one
