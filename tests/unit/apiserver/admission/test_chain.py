"""The admission chain: who has a say in a request, which may go by the chain where nobody has."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from kubecore._native import UserInfo
from kubecore.apiserver.admission.chain import AdmissionChain, Plugin
from kubecore.apiserver.admission.node_restriction import NodeRestriction

ADMIN = UserInfo("admin", groups=["system:masters"])
KUBELET = UserInfo("system:node:n1", groups=["system:nodes"])
UPDATE_OF_STATUS = ("pods", "UPDATE", "status")


class OfPods(Plugin):
    name = "OfPods"

    def __init__(self) -> None:
        self.asked = 0

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        self.asked += 1
        return resource_key == "pods"


class Mutating(OfPods):
    def mutate(self, ctx: Any, obj: Any, old: Any) -> bool:
        return False


class Validating(OfPods):
    def validate(self, ctx: Any, obj: Any, old: Any) -> None:
        pass


class Deciding(OfPods):
    def decide(self, ctx: Any, obj: Any, old: Any) -> None:
        pass


class Expecting(OfPods):
    def expect(self, ctx: Any, obj: Any) -> None:
        pass


class Lenient(Validating):
    """Restricts kubelets alone."""

    def restricts(self, user: Any) -> bool:
        return user is KUBELET


def handles(chain: AdmissionChain, *users: Any) -> list[bool]:
    return [chain.handles(*UPDATE_OF_STATUS, user) for user in users or (ADMIN,)]


def with_dynamic(chain: AdmissionChain) -> SimpleNamespace:
    """Webhooks and policies, of which there are none yet."""
    stored = SimpleNamespace(awake=False)
    chain.dynamic = cast(Any, stored)
    return stored


@pytest.mark.parametrize("plugin", [Expecting, Mutating, Validating, Deciding])
def test_a_plugin_has_a_say_in_what_it_handles_by_any_of_its_steps(plugin: type[OfPods]) -> None:
    chain = AdmissionChain([plugin()])
    assert handles(chain) == [True]
    assert not chain.handles("events", "CREATE", "", ADMIN)


def test_what_does_nothing_has_no_say() -> None:
    assert handles(AdmissionChain([OfPods()])) == [False]
    assert handles(AdmissionChain([])) == [False]


def test_a_plugin_that_leaves_users_alone_has_no_say_in_what_they_do() -> None:
    assert handles(AdmissionChain([Lenient()]), ADMIN, KUBELET, ADMIN) == [False, True, False]
    assert handles(AdmissionChain([Lenient(), Mutating()]), ADMIN, KUBELET) == [True, True]


def test_the_plugin_that_who_asks_hears_himself_does_not_count() -> None:
    chain = AdmissionChain([Mutating()])
    assert not chain.handles(*UPDATE_OF_STATUS, ADMIN, but="OfPods")
    assert chain.handles(*UPDATE_OF_STATUS, ADMIN)


def test_plugins_are_looked_through_once_for_all_requests_of_a_kind() -> None:
    plugin = Lenient()
    chain = AdmissionChain([plugin])
    handles(chain, ADMIN)
    known = plugin.asked
    handles(chain, KUBELET, ADMIN)
    assert plugin.asked == known


def test_webhooks_and_policies_have_a_say_from_when_there_are_any_until_there_are_none() -> None:
    chain = AdmissionChain([])
    stored = with_dynamic(chain)
    seen = []
    for stored.awake in (False, True, False):
        seen += handles(chain)
    assert seen == [False, True, False]


@pytest.mark.parametrize("request_", [UPDATE_OF_STATUS, ("pods", "DELETE", ""), ("pods", "CREATE", "binding")])
def test_the_restriction_of_nodes_is_about_kubelets_alone(request_: tuple[str, str, str]) -> None:
    chain = AdmissionChain([NodeRestriction(cast(Any, None))])
    unnamed = UserInfo("system:node:", groups=["system:nodes"])
    told = [chain.handles(*request_, user) for user in (ADMIN, KUBELET, unnamed)]
    assert told == [False, True, True]
