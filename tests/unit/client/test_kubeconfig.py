from pathlib import Path

import pytest

from kubecore.client.kubeconfig import Kubeconfig, KubeconfigError


def test_what_is_saved_is_loaded_again(tmp_path: Path) -> None:
    path = tmp_path / "admin.kubeconfig"
    config = Kubeconfig(
        server="https://127.0.0.1:6443",
        certificate_authority=b"ca",
        client_certificate=b"cert",
        client_key=b"key",
        token="t",
        context="kubecore",
    )
    config.save(path)
    assert Kubeconfig.load(path) == config


def test_a_saved_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "config"
    Kubeconfig(server="https://h").save(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_credentials_in_files_are_found_beside_it(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(b"the ca")
    (tmp_path / "config").write_text(
        "current-context: c\n"
        "contexts: [{name: c, context: {cluster: k, user: u, namespace: team}}]\n"
        "clusters: [{name: k, cluster: {server: 'https://h/', certificate-authority: ca.crt}}]\n"
        "users: [{name: u, user: {token: abc}}]\n"
    )
    config = Kubeconfig.load(tmp_path / "config")
    assert (config.server, config.certificate_authority, config.token) == ("https://h", b"the ca", "abc")
    assert config.namespace == "team"


@pytest.mark.parametrize("text", ["", "[]", "{a: [", "current-context: nowhere"])
def test_a_file_that_is_no_kubeconfig_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(KubeconfigError):
        Kubeconfig.load(tmp_path / "config")
