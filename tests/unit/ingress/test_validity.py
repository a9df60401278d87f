"""Certificates are judged by their time and their names."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kubecore.ingress.validity import Facts, covers, next_change, problems

BEGIN, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
FACTS = Facts(BEGIN, END, ("foo.com", "*.foo.com"))


@pytest.mark.parametrize(
    ("names", "host", "expected"),
    [
        (("foo.com",), "foo.com", True),
        (("foo.com",), "www.foo.com", False),
        (("*.foo.com",), "www.foo.com", True),
        (("*.foo.com",), "foo.com", False),
        (("*.foo.com",), "a.b.foo.com", False),
        (("*.foo.com",), "*.foo.com", True),
        (("*.com",), "*.foo.com", False),
        (("www.foo.com",), "*.foo.com", False),
        ((), "foo.com", False),
    ],
)
def test_a_wildcard_stands_for_one_label(names: tuple[str, ...], host: str, expected: bool) -> None:
    assert covers(names, host) is expected


@pytest.mark.parametrize(
    ("now", "reasons"),
    [
        (datetime(2025, 12, 31, tzinfo=UTC), ["CertificateNotYetValid"]),
        (BEGIN, []),
        (END, ["CertificateExpired"]),
    ],
)
def test_a_certificate_has_its_time(now: datetime, reasons: list[str]) -> None:
    assert [one.reason for one in problems(FACTS, "default/cert", ["foo.com", "www.foo.com", ""], now)] == reasons


def test_hosts_that_it_is_not_for_are_named() -> None:
    (found,) = problems(FACTS, "default/cert", ["foo.com", "bar.com"], BEGIN)
    assert found.message == "the certificate of Secret default/cert is for foo.com, *.foo.com, not for bar.com"


def test_it_is_judged_again_when_its_time_begins_and_ends() -> None:
    assert next_change(FACTS, datetime(2025, 1, 1, tzinfo=UTC)) == BEGIN
    assert next_change(FACTS, BEGIN) == END
    assert next_change(FACTS, END) is None
