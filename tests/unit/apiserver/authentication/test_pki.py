from __future__ import annotations

from pathlib import Path

import pytest

from kubecore.apiserver.authentication.pki import CertificateAuthority, PKIError
from kubecore.clock import VirtualClock


def authority(directory: Path) -> CertificateAuthority:
    return CertificateAuthority(directory, VirtualClock())


def test_certificates_are_kept_over_a_restart(tmp_path: Path) -> None:
    first = authority(tmp_path)
    serving, client = first.serving("apiserver", ["localhost"]), first.client("admin", "admin", ["system:masters"])
    again = authority(tmp_path)
    assert again.pair == first.pair
    assert again.serving("apiserver", ["localhost"]) == serving
    assert again.client("admin", "admin", ["system:masters"]) == client


def test_a_serving_certificate_is_renewed_when_its_hosts_change(tmp_path: Path) -> None:
    first = authority(tmp_path).serving("apiserver", ["localhost"])
    assert authority(tmp_path).serving("apiserver", ["localhost", "127.0.0.1"]) != first


def test_a_pair_whose_renewal_was_killed_half_way_is_made_anew(tmp_path: Path) -> None:
    ca = authority(tmp_path)
    ca.serving("apiserver", ["localhost"])
    (tmp_path / "apiserver.key").write_bytes(ca.client("other", "other").key)
    renewed = authority(tmp_path).serving("apiserver", ["localhost"])
    assert authority(tmp_path).serving("apiserver", ["localhost"]) == renewed


def test_a_first_start_killed_between_key_and_certificate_of_the_ca_is_made_anew(tmp_path: Path) -> None:
    authority(tmp_path)
    (tmp_path / "ca.crt").unlink()
    assert authority(tmp_path).serving("apiserver", ["localhost"]).certificate


def test_a_ca_with_a_foreign_key_is_refused_by_name(tmp_path: Path) -> None:
    ca = authority(tmp_path)
    (tmp_path / "ca.key").write_bytes(ca.issue_client("other").key)
    with pytest.raises(PKIError, match=r"ca\.key is not the key of .*ca\.crt"):
        authority(tmp_path)


def test_a_damaged_certificate_is_refused_by_name(tmp_path: Path) -> None:
    authority(tmp_path)
    (tmp_path / "ca.crt").write_bytes(b"nonsense")
    with pytest.raises(PKIError, match=r"ca\.crt or its key is unusable"):
        authority(tmp_path)


def test_private_keys_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    authority(tmp_path).serving("apiserver", ["localhost"])
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("*.key")} == {0o600}
