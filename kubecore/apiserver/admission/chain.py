"""The admission chain: mutating plugins in order, later validating ones, over each write; last those that may wait.

What refuses while others mutate comes before anything is judged by its kind, as upstream, whose plugins do both in
`Admit`: who may not do this at all is not told what is wrong with it (403, and not 422 or 409).

A plugin is a small class of its own file that says which requests it handles; the chain of a (resource, operation,
subresource) is computed once. Plugins look at other objects through the context; what must wait for something (a quota
to be charged, somebody else's answer) comes in `decide`, when nothing else is left that could refuse the write. What is
on its way and needed by `mutate` is waited for in `expect`, before anything is done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from kubecore.api.errors import StatusError
from kubecore.apiserver.admission.metrics import ADMIT, VALIDATE, AdmissionMetrics

if TYPE_CHECKING:
    from kubecore._native import TimedCalls
    from kubecore.apiserver.admission.dynamic.admission import DynamicAdmission
    from kubecore.apiserver.registry.strategy import RequestContext, User

JSON = dict[str, Any]

CREATE, UPDATE, DELETE, CONNECT = "CREATE", "UPDATE", "DELETE", "CONNECT"


class Plugin:
    """Base of all plugins: handles nothing, does nothing."""

    name: str = ""

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return False

    def restricts(self, user: User) -> bool:
        """Whether such requests of this user may come to more than that they pass; the same for a user ever after."""
        return True

    def expect(self, ctx: RequestContext, obj: JSON) -> Awaitable[None] | None:
        """Of a CREATE: what must be there before `mutate` and is about to come; None when nothing is missing."""
        return None

    def mutate(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> bool:
        """Changes `obj` in place; True when what it put there is to be defaulted. Raises StatusError to refuse. For a
        DELETE there is nothing in `obj`."""
        return False

    def guard(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> Awaitable[None] | None:
        """What the registry asks before it judges what mutating has led to; None when there is nothing to wait for.

        Raises StatusError to refuse, at once or when awaited."""
        return None

    def validate(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        """Raises StatusError to refuse. `obj` is None for a DELETE, `old` for a CREATE."""

    def decide(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> Awaitable[None] | None:
        """The last word, by a plugin that may have to wait for it; None when there is nothing to wait for.

        Raises StatusError to refuse, at once or when awaited. What must be told how the write ended puts that into
        `ctx.finish`."""
        return None

    async def close(self) -> None:
        """Lets go of what it holds open; called once, at the end."""


# Whom a step waits for, the number of his call, and when the step and that call began.
_Paused = tuple[Awaitable[None], int, float, float]
# Resource, operation, subresource.
_Key = tuple[str, str, str]


class _Handling(NamedTuple):
    """Whether there are plugins that handle such requests of everybody, and those that leave some users alone."""

    everybody: bool
    some: tuple[Plugin, ...]


class AdmissionChain:
    """All plugins, in the order Kubernetes runs them, for as long as there is the chain.

    What mutates comes in up to two parts (`mutate`, webhooks and policies), what validates in three (`validate`,
    webhooks and policies, `decide`), which are one step each to whoever looks at metrics: each part adds its time to
    the context's, and the last one has it counted. Nearly all writes meet plugins alone, which Rust calls and times."""

    def __init__(self, plugins: Sequence[Plugin], metrics: AdmissionMetrics | None = None) -> None:
        self.plugins = tuple(plugins)
        # Webhooks and policies, once there is a server to call them.
        self.dynamic: DynamicAdmission | None = None
        self.metrics = metrics or AdmissionMetrics()
        self._expecting: dict[_Key, tuple[Plugin, ...]] = {}
        self._mutating: dict[_Key, TimedCalls] = {}
        self._validating: dict[_Key, TimedCalls] = {}
        self._deciding: dict[_Key, TimedCalls] = {}
        self._handling: dict[tuple[_Key, str], _Handling] = {}

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
            plugins = self._mutating[key] = self._timed("mutate", ADMIT, key)
        if self.dynamic is None or not self.dynamic.awake:
            return plugins.whole(ctx, obj, old)
        wants_defaults, seconds = plugins.part(ctx, obj, old)
        ctx.admit_seconds += seconds
        return wants_defaults

    def validate(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        key = (ctx.resource_key, ctx.operation, ctx.subresource)
        plugins = self._validating.get(key)
        if plugins is None:
            plugins = self._validating[key] = self._timed("validate", VALIDATE, key)
        _, ctx.validate_seconds = plugins.part(ctx, obj, old)

    def decide(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> Awaitable[None] | None:
        """None when nobody has to be waited for, which is what most writes hear."""
        key = (ctx.resource_key, ctx.operation, ctx.subresource)
        plugins = self._deciding.get(key)
        if plugins is None:
            plugins = self._deciding[key] = self._timed("decide", VALIDATE, key)
        paused = plugins.last(ctx, obj, old, ctx.validate_seconds)
        return None if paused is None else _decided(plugins, paused, ctx, obj, old)

    def handles(self, resource_key: str, operation: str, subresource: str, user: User, *, but: str = "") -> bool:
        """Whether anybody has a say in such requests of the user at present: a webhook or policy, as soon as there is
        any, or a plugin. False means that they may go by the chain; to hear the plugin named `but` remains to who asks.

        What plugins say of it stands for good. Webhooks and policies are those stored now: who does not wait between
        this and the write's beginning is not overtaken by a new one."""
        if self.asked is not None:
            return True
        asked = (resource_key, operation, subresource), but
        handling = self._handling.get(asked)
        if handling is None:
            handling = self._handling[asked] = self._handling_of(*asked)
        return handling.everybody or any(one.restricts(user) for one in handling.some)

    def _handling_of(self, key: _Key, but: str) -> _Handling:
        steps = [self._overriding(method, key) for method in ("expect", "mutate", "validate", "decide")]
        plugins = {one for step in steps for one in step if one.name != but}
        some = tuple(one for one in plugins if type(one).restricts is not Plugin.restricts)
        return _Handling(len(some) < len(plugins), some)

    def guards(self, resource_key: str) -> tuple[Plugin, ...]:
        """Those with a `guard` for creates and updates of this resource: of most there is none."""
        return self._overriding("guard", (resource_key, CREATE, ""))

    async def close(self) -> None:
        for plugin in self.plugins:
            await plugin.close()

    def _timed(self, method: str, type_: str, key: _Key) -> TimedCalls:
        # Who validates and decides is one plugin all the same.
        calls = [
            (one.name, getattr(one, method), method == "decide" and type(one).validate is not Plugin.validate)
            for one in self._overriding(method, key)
        ]
        return self.metrics.timed(calls, type_, key[1])

    def _overriding(self, method: str, key: _Key) -> tuple[Plugin, ...]:
        base = getattr(Plugin, method)
        return tuple(
            plugin for plugin in self.plugins if getattr(type(plugin), method) is not base and plugin.handles(*key)
        )


async def guarded(guards: Sequence[Plugin], ctx: RequestContext, obj: JSON, old: JSON | None) -> None:
    """Asks them one after the other. Raises StatusError."""
    for plugin in guards:
        if (asking := plugin.guard(ctx, obj, old)) is not None:
            await asking


async def _decided(
    plugins: TimedCalls, paused: _Paused | None, ctx: RequestContext, obj: JSON | None, old: JSON | None
) -> None:
    """From a plugin on that has to be waited for."""
    while paused is not None:
        waiting, number, began, before = paused
        try:
            await waiting
        except StatusError:
            plugins.refused(number, began, before)
            raise
        paused = plugins.go_on(ctx, obj, old, number, began, before)


async def _all(coming: Sequence[Awaitable[None]]) -> None:
    for one in coming:
        await one
