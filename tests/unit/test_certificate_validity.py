"""Certificates of a cluster whose clock is not the machine's hold by both."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from kubecore import self_signed
from kubecore.apiserver.authentication.pki import CertificateAuthority
from kubecore.certificate_validity import validity
from kubecore.clock import RealClock, VirtualClock

OUTSIDE = datetime(2028, 6, 1, tzinfo=UTC)
YEAR, SLACK = timedelta(days=365), timedelta(minutes=5)


def virtual(start: datetime) -> VirtualClock:
    return VirtualClock(start, machine=lambda: OUTSIDE)


@pytest.mark.parametrize("year", [2025, 2028, 2035])
def test_a_certificate_is_good_from_the_earlier_clock_to_a_lifetime_after_the_later(year: int) -> None:
    inside = datetime(year, 1, 1, tzinfo=UTC)
    expected = min(inside, OUTSIDE) - SLACK, max(inside, OUTSIDE) + YEAR
    assert validity(virtual(inside), YEAR, backdated=SLACK) == expected


def test_in_real_time_both_clocks_are_one() -> None:
    class Fixed(RealClock):
        def now(self) -> datetime:
            return OUTSIDE

    assert validity(Fixed(), YEAR, backdated=SLACK) == (OUTSIDE - SLACK, OUTSIDE + YEAR)


def span(pem: bytes) -> tuple[datetime, datetime]:
    certificate = x509.load_pem_x509_certificate(pem)
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc


@pytest.mark.parametrize("year", [2025, 2026, 2035])
def test_whatever_a_cluster_issues_for_itself_holds_inside_and_outside(tmp_path: Path, year: int) -> None:
    clock = virtual(datetime(year, 1, 1, tzinfo=UTC))
    authority = CertificateAuthority(tmp_path, clock)
    issued = [
        authority.certificate,
        authority.serving("apiserver", ["localhost"]).certificate,
        authority.client("admin", "admin").certificate,
        self_signed.make("n@kubelet", clock, hosts=["n"])[0],
    ]
    for pem in issued:
        begins, ends = span(pem)
        assert begins < min(clock.now(), OUTSIDE)
        assert ends >= max(clock.now(), OUTSIDE) + YEAR


async def test_what_is_renewed_after_the_clusters_time_has_passed_holds_by_both_again(tmp_path: Path) -> None:
    clock = virtual(datetime(2028, 1, 1, tzinfo=UTC))
    first = CertificateAuthority(tmp_path, clock).serving("apiserver", ["localhost"])
    await clock.advance(300 * 86400)
    assert CertificateAuthority(tmp_path, clock).serving("apiserver", ["localhost"]) == first
    await clock.advance(300 * 86400)
    renewed = CertificateAuthority(tmp_path, clock).serving("apiserver", ["localhost"])
    assert renewed != first
    assert span(renewed.certificate) == (OUTSIDE - SLACK, clock.now() + YEAR)


def test_what_has_expired_outside_is_not_kept(tmp_path: Path) -> None:
    """As when a folder is used again years later, its cluster's time being the same."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    early = VirtualClock(start, machine=lambda: start)
    kept = CertificateAuthority(tmp_path, early).client("admin", "admin")
    assert CertificateAuthority(tmp_path, virtual(start)).client("admin", "admin") != kept
