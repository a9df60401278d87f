"""`kubecore bench`: which benches there are, and what becomes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from kubecore.cli import bench
from kubecore.cli.main import app

NAMES = [
    "apiserver",
    "apply",
    "crd",
    "create-fsync",
    "dns",
    "get",
    "grpc",
    "guarded",
    "ingress",
    "lb-pick",
    "list10k",
    "list-selector",
    "patch-status",
    "pods",
    "rbac",
    "rollout",
    "sched5k",
    "selector",
    "simulated",
    "start",
    "svc-data",
    "svc-live",
    "svc-sync",
    "tcp-proxy",
    "watch1k",
    "watch-init",
    "webhooks",
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    return tmp_path


def test_every_path_that_has_a_target_has_a_bench() -> None:
    assert list(bench.benches(bench.FOLDER)) == NAMES


def test_an_unknown_name_is_told_with_the_names_there_are() -> None:
    result = CliRunner().invoke(app, ["bench", "get", "nosuch"])
    assert result.exit_code == 2
    assert "no bench is named 'nosuch'" in result.stderr
    assert ", ".join(NAMES) in result.stderr
    assert result.stdout == ""


def test_without_the_source_tree_it_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setattr(bench, "FOLDER", folder / "none")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["bench", "get"])
    assert result.exit_code == 2
    assert "run this from a checkout" in result.stderr


def test_all_runs_each_bench_once_and_no_shared_part(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two_words", "grpc_"):
        (folder / f"{name}.py").write_text(f"print('ran {name}')")
    (folder / "_shared.py").write_text("print('shared')")
    result = CliRunner().invoke(app, ["bench", "all"])
    assert result.exit_code == 0
    assert capfd.readouterr().out.splitlines() == ["ran grpc_", "ran one", "ran two_words"]


def test_one_that_cannot_be_run_does_not_keep_the_others_from_running(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "bad.py").write_text("raise SystemExit('etcd is missing')")
    (folder / "good.py").write_text("print('ran good')")
    result = CliRunner().invoke(app, ["bench", "bad", "good"])
    assert result.exit_code == 1
    assert "could not be run: bad" in result.stderr
    shown = capfd.readouterr()
    assert shown.out == "ran good\n"
    assert "etcd is missing" in shown.err
