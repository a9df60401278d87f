"""EventRateLimit: buckets of each kind, and what of a configuration is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from kubecore.api.configuration_file import InvalidConfiguration
from kubecore.api.errors import StatusError
from kubecore.apiserver.admission.event_rate import EventRateLimit, Limit, load
from kubecore.clock import VirtualClock

HEAD = "apiVersion: eventratelimit.admission.k8s.io/v1alpha1\nkind: Configuration\n"


def context(namespace: str = "a", user: str = "u", **more: Any) -> Any:
    named = SimpleNamespace(username=user)
    return cast(Any, SimpleNamespace(namespace=namespace, user=named, dry_run=False, api_version="v1", **more))


def accepts(plugin: EventRateLimit, ctx: Any, event: dict[str, Any] | None = None) -> bool:
    try:
        plugin.validate(ctx, event or {}, None)
    except StatusError as refused:
        assert (refused.code, refused.reason) == (429, "TooManyRequests")
        return False
    return True


@pytest.mark.asyncio
async def test_a_burst_is_taken_at_once_and_more_as_time_goes_by() -> None:
    clock = VirtualClock()
    plugin = EventRateLimit((Limit("Namespace", qps=2, burst=3, buckets=10),), clock)
    assert [accepts(plugin, context()) for _ in range(4)] == [True, True, True, False]
    assert accepts(plugin, context("b"))
    await clock.advance(0.5)
    assert [accepts(plugin, context()) for _ in range(2)] == [True, False]


def test_the_refusal_names_all_limits_that_are_reached() -> None:
    limits = (Limit("Server", qps=1, burst=1, buckets=1), Limit("User", qps=1, burst=1, buckets=1))
    plugin = EventRateLimit(limits, VirtualClock())
    plugin.validate(context(), {}, None)
    with pytest.raises(StatusError) as refused:
        plugin.validate(context(), {}, None)
    assert refused.value.message == (
        "Too many requests: [limit reached on type Server for key , limit reached on type User for key u]"
    )


def test_the_bucket_that_was_used_longest_ago_is_forgotten() -> None:
    plugin = EventRateLimit((Limit("Namespace", qps=1, burst=1, buckets=2),), VirtualClock())
    assert [accepts(plugin, context(name)) for name in ("a", "b", "a", "c", "a", "b")] == [
        True,
        True,
        False,
        True,
        False,
        True,
    ]


def test_an_event_is_counted_by_its_source_and_what_it_is_about() -> None:
    plugin = EventRateLimit((Limit("SourceAndObject", qps=1, burst=1, buckets=9),), VirtualClock())
    event = {"source": {"component": "c"}, "involvedObject": {"name": "p"}}
    assert accepts(plugin, context(), event)
    assert not accepts(plugin, context(), event)
    assert accepts(plugin, context(), {**event, "involvedObject": {"name": "q"}})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "limits: Invalid value: null: must not be empty"),
        ("limits: []", "limits: Invalid value: []: must not be empty"),
        ("limits: [{type: Odd, qps: 1, burst: 1}]", 'limits[0].type: Unsupported value: "Odd"'),
        ("limits: [{type: Server, qps: 0, burst: 1}]", "limits[0].qps: Invalid value: 0: must be positive"),
        ("limits: [{type: User, qps: 1, burst: 1, cacheSize: -1}]", "limits[0].cacheSize: Invalid value: -1: must not"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidConfiguration) as refused:
        load(HEAD + text)
    assert words in str(refused.value)


def test_nobody_has_the_plugin_without_a_configuration() -> None:
    with pytest.raises(InvalidConfiguration, match="limits: Invalid value: null: must not be empty"):
        load("")
