"""Credentials for components that run on their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from typer.testing import CliRunner

from kubecore.apiserver.authentication.kubeconfig import kubeconfig
from kubecore.apiserver.authentication.pki import CertificateAuthority
from kubecore.cli.main import app
from kubecore.client.kubeconfig import Kubeconfig
from kubecore.clock import RealClock


def ask(data_dir: Path, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["kubeconfig", "user", "--data-dir", str(data_dir), *arguments])
    return result.exit_code, result.output


def test_a_user_gets_a_certificate_of_that_name_and_those_groups_for_the_clusters_server(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path / "pki", RealClock())
    administrator = kubeconfig(
        "https://127.0.0.1:6443", authority.certificate, authority.issue_client("admin"), user="admin"
    )
    (tmp_path / "admin.kubeconfig").write_bytes(administrator)
    status, printed = ask(tmp_path, "--client-name", "system:node:a", "--org", "system:nodes", "--org", "others")
    assert status == 0
    (tmp_path / "kubelet.kubeconfig").write_text(printed)
    made = Kubeconfig.load(tmp_path / "kubelet.kubeconfig")
    assert (made.server, made.certificate_authority) == ("https://127.0.0.1:6443", authority.certificate)
    certificate = x509.load_pem_x509_certificate(made.client_certificate)
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate))
    subject = certificate.subject
    assert [one.value for one in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["system:node:a"]
    groups = [one.value for one in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    assert groups == ["system:nodes", "others"]


def test_a_directory_where_no_cluster_was_started_is_refused_and_left_alone(tmp_path: Path) -> None:
    status, said = ask(tmp_path, "--client-name", "admin")
    assert status == 1
    assert said == f"kubecore: no cluster was started in {tmp_path} yet: it has no admin.kubeconfig\n"
    assert list(tmp_path.iterdir()) == []


def test_a_data_directory_that_may_not_be_read_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "admin.kubeconfig").write_bytes(b"")
    (tmp_path / "pki").write_bytes(b"in the way of the folder")
    status, said = ask(tmp_path, "--client-name", "me")
    assert status == 1
    assert said.startswith(f"kubecore: {tmp_path}/pki") and said.count("\n") == 1


@pytest.mark.parametrize("name", ["", "x" * 65])
def test_a_name_that_no_certificate_can_have_is_refused(tmp_path: Path, name: str) -> None:
    authority = CertificateAuthority(tmp_path / "pki", RealClock())
    administrator = kubeconfig("https://127.0.0.1:1", authority.certificate, authority.issue_client("a"), user="a")
    (tmp_path / "admin.kubeconfig").write_bytes(administrator)
    status, said = ask(tmp_path, "--client-name", name)
    assert status == 2
    assert "a name in a certificate has 1 to 64 characters" in said
