"""`kubecore up` as far as it comes without a cluster."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kubecore.cli.main import app
from kubecore.cli.up import no_room, told


def test_a_data_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(app, ["up", "--data-dir", str(tmp_path / "file")])
    assert result.exit_code == 1
    assert result.output == (
        f"kubecore: cannot write to the data directory: {tmp_path}/file: Not a directory; choose one with --data-dir\n"
    )


def test_a_folder_is_told_without_the_way_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "linked").symlink_to(tmp_path)
    result = CliRunner().invoke(app, ["up", "--data-dir", f"{tmp_path}/not-there/../linked/./file"])
    assert f"the data directory: {tmp_path}/file: Not a directory" in result.output
    # A symbolic link alone is a name as good as any.
    result = CliRunner().invoke(app, ["up", "--data-dir", f"{tmp_path}/linked/file"])
    assert f"the data directory: {tmp_path}/linked/file: Not a directory" in result.output


@pytest.mark.parametrize(
    ("option", "text", "says"),
    [
        ("--dns-upstream", "dns.example", "'dns.example' is not an address of a resolver"),
        ("--dns-upstream", "10.0.0.2:0", "'10.0.0.2:0' has no port between 1 and 65535"),
        ("--dns-stub-domain", "corp.example", "'corp.example' is not DOMAIN=RESOLVER[,RESOLVER...]"),
        ("--dns-stub-domain", "corp.example=10.0.0.2,", "'' is not an address of a resolver"),
        ("--dns-stub-domain", "cluster.local=10.0.0.2", "names of cluster.local are the cluster's own"),
    ],
)
def test_a_bad_option_of_dns_is_named(tmp_path: Path, option: str, text: str, says: str) -> None:
    result = CliRunner().invoke(app, ["up", "--data-dir", str(tmp_path / "data"), option, text])
    assert result.exit_code == 2
    assert says in " ".join(result.output.replace("│", "").split())
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("option", "text", "says"),
    [
        ("--oci-runtime", "/no/such/runc", "there is no program '/no/such/runc' that can be run"),
        ("--oci-runtime-handler", "crun=/no/such/crun", "there is no program '/no/such/crun' that can be run"),
        ("--oci-runtime-handler", "crun", "'crun' is not HANDLER=PROGRAM"),
        ("--oci-runtime-handler", "host=/bin/true", "'host=/bin/true' is not HANDLER=PROGRAM"),
    ],
)
def test_an_oci_runtime_that_cannot_be_had_is_named_at_the_start(
    tmp_path: Path, option: str, text: str, says: str
) -> None:
    result = CliRunner().invoke(app, ["up", "--data-dir", str(tmp_path / "data"), option, text])
    assert result.exit_code == 2
    assert says in " ".join(result.output.replace("│", "").split())


def test_nodes_that_renew_their_leases_too_seldom_are_told_at_the_start(tmp_path: Path) -> None:
    options = ["--data-dir", str(tmp_path / "data"), "--node-monitor-grace-period", "10s", "--leader-elect=false"]
    result = CliRunner().invoke(app, ["up", *options])
    assert result.exit_code == 2
    says = "is more than the 10 s after which nodes renew leases of 40 s, not 10"
    assert says in " ".join(result.output.replace("│", "").split())
    (file := tmp_path / "kubelet.yaml").write_text(
        "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nnodeLeaseDurationSeconds: 4000\n"
    )
    result = CliRunner().invoke(app, ["up", "--data-dir", str(tmp_path / "data"), "--kubelet-config", str(file)])
    assert "is more than the 1000 s after which" in " ".join(result.output.replace("│", "").split())
    assert not (tmp_path / "data").exists()


def test_an_error_is_told_without_its_number() -> None:
    assert told(OSError(98, "cannot listen on 127.0.0.1:6443: Address already in use")) == (
        "cannot listen on 127.0.0.1:6443: Address already in use"
    )
    assert told(PermissionError(13, "Permission denied", "/root/x")) == "/root/x: Permission denied"
    assert told(ValueError("no")) == "no"


def test_a_full_disk_is_told_with_its_place_and_what_to_do(tmp_path: Path) -> None:
    full = OSError(28, "No space left on device")
    assert no_room(ExceptionGroup("start", [full]), tmp_path) == (
        f"{tmp_path}: No space left on device; make room there, or choose another place with --data-dir"
    )
    assert no_room(PermissionError(13, "Permission denied"), tmp_path) == ""


def test_a_user_without_a_home_directory_is_told_to_choose_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 54_321_000)
    result = CliRunner().invoke(app, ["up"])
    assert result.exit_code == 2
    assert "this user has no home directory, choose another folder" in " ".join(result.output.replace("│", "").split())


def test_a_command_that_is_not_there_starts_no_cluster() -> None:
    result = CliRunner().invoke(app, ["up", "--", "no-such-command", "--no-ingress=false"])
    assert result.exit_code == 2
    assert "there is no command no-such-command" in " ".join(result.output.replace("│", "").split())
