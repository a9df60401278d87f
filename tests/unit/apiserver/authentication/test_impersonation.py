"""Whom the headers Impersonate-* name, what is asked of who sends them, and whom he becomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from kubecore.api.errors import StatusError
from kubecore.apiserver.authentication import impersonation
from kubecore.apiserver.authentication.impersonation import Wanted

ACCOUNT = "system:serviceaccount:"


@dataclass
class Headers:
    given: list[tuple[str, str]]

    def header(self, name: str) -> str | None:
        """As the front: None for what is no ASCII."""
        return next((value for key, value in self.given if key.lower() == name and value.isascii()), None)

    def headers(self) -> list[tuple[str, str]]:
        return self.given


def wanted(*given: tuple[str, str]) -> Wanted | None:
    return impersonation.wanted(cast("Any", Headers([(f"Impersonate-{name}", value) for name, value in given])))


def user(name: str, *groups: str) -> Wanted:
    found = wanted(("User", name), *(("Group", group) for group in groups))
    assert found is not None
    return found


def test_without_headers_nobody_is_named() -> None:
    assert wanted() is None
    assert wanted(("User", "")) is None


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("Group", "x"), "{Group  x    }"),
        (("Uid", "7"), "{UID  7  authentication.k8s.io/v1  }"),
        (("Extra-Acme.com%2FScopes", "view"), "{UserExtra  view  authentication.k8s.io/v1  acme.com/scopes}"),
    ],
)
def test_what_belongs_to_a_user_is_refused_without_one(given: tuple[str, str], told: str) -> None:
    with pytest.raises(StatusError) as refused:
        wanted(given)
    assert refused.value.code == 400
    assert ("X-Content-Type-Options", "nosniff") in refused.value.headers
    assert str(refused.value.message) == f"requested [{told}] without impersonating a user"


def test_nobody_goes_on_as_himself_for_letters_in_a_name() -> None:
    found = wanted(("User", "josé"), ("Uid", "ü"))
    assert found is not None
    assert (found.name, found.uid) == ("josé", "ü")


def test_of_several_users_the_first_one_counts() -> None:
    assert wanted(("User", ""), ("User", "jim")) is None
    assert user("jim").name == "jim"


def test_each_part_is_asked_for_itself() -> None:
    found = wanted(("User", "jim"), ("Group", "a"), ("Group", "b"), ("Uid", "7"), ("Extra-K", "v"), ("extra-k", "w"))
    assert found is not None
    asked = [(one.group, one.resource, one.subresource, one.namespace, one.name) for one in found.demands()]
    assert asked == [
        ("", "users", "", "", "jim"),
        ("", "groups", "", "", "a"),
        ("", "groups", "", "", "b"),
        ("authentication.k8s.io", "userextras", "k", "", "v"),
        ("authentication.k8s.io", "userextras", "k", "", "w"),
        ("authentication.k8s.io", "uids", "", "", "7"),
    ]
    assert all(one.verb == "impersonate" for one in found.demands())
    identity = found.identity()
    assert (identity.uid, {key: list(values) for key, values in identity.extra.items()}) == ("7", {"k": ["v", "w"]})


def test_a_service_account_is_one_of_its_namespace() -> None:
    (asked,) = user(f"{ACCOUNT}team:robot").demands()
    assert (asked.resource, asked.namespace, asked.name) == ("serviceaccounts", "team", "robot")


@pytest.mark.parametrize("name", ["team:Robot", "team:", ":robot", "a/b:robot", "team:robot:more", "team"])
def test_what_is_no_name_of_an_account_is_a_users(name: str) -> None:
    found = user(ACCOUNT + name)
    (asked,) = found.demands()
    assert (asked.resource, asked.namespace, asked.name) == ("users", "", ACCOUNT + name)
    assert list(found.identity().groups) == ["system:authenticated"]


@pytest.mark.parametrize(
    ("name", "given", "groups"),
    [
        ("jim", [], ["system:authenticated"]),
        ("jim", ["a"], ["a", "system:authenticated"]),
        ("jim", ["system:unauthenticated"], ["system:unauthenticated"]),
        ("jim", ["system:authenticated", "a"], ["system:authenticated", "a"]),
        ("system:anonymous", [], ["system:unauthenticated"]),
        ("system:anonymous", ["system:authenticated"], ["system:authenticated", "system:unauthenticated"]),
        (f"{ACCOUNT}n:a", [], ["system:serviceaccounts", "system:serviceaccounts:n", "system:authenticated"]),
        (f"{ACCOUNT}n:a", ["x"], ["x", "system:authenticated"]),
    ],
)
def test_groups_that_are_asked_for_are_the_ones_there_are(name: str, given: list[str], groups: list[str]) -> None:
    assert list(user(name, *given).identity().groups) == groups
