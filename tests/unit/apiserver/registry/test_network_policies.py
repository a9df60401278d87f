"""NetworkPolicies: what is refused of a block of addresses."""

from __future__ import annotations

from tests.unit.apiserver.registry.writing import Writer

POLICIES = Writer("networkpolicies.networking.k8s.io")


def told(cidr: str, *exceptions: str) -> list[str]:
    block = {"ipBlock": {"cidr": cidr, "except": list(exceptions)}}
    spec = {"podSelector": {}, "ingress": [{"from": [block]}]}
    where = "spec.ingress[0].from[0].ipBlock."
    found = POLICIES.problems({"metadata": {"name": "a"}, "spec": spec})
    assert all(problem.startswith(where) for problem in found)
    return [problem.removeprefix(where) for problem in found]


def test_exceptions_are_within_the_block() -> None:
    assert told("10.0.0.0/8", "10.1.0.0/16") == []
    assert told("10.0.0.0/8", "11.0.0.0/16", "x") == [
        'except[0]: Invalid value: "11.0.0.0/16": must be a strict subset of `cidr`',
        'except[1]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)',
    ]


def test_of_a_block_that_is_none_exceptions_are_not_looked_at() -> None:
    assert [problem.partition(":")[0] for problem in told("x", "y")] == ["cidr"]
