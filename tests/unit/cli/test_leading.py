"""Leader election as options and a component's configuration file ask for it together."""

from __future__ import annotations

from dataclasses import replace

import pytest
import typer
from typer.testing import CliRunner

from kubecore.cli.leading import Leading, leads

DEFAULTS = Leading(
    wanted=True,
    name="kube-scheduler",
    namespace="kube-system",
    lease_duration="15s",
    renew_deadline="10s",
    retry_period="2s",
)


def test_the_file_speaks_where_options_do_not() -> None:
    file = {"leaderElect": False, "resourceName": "mine", "resourceNamespace": "here", "leaseDuration": "30s"}
    found = DEFAULTS.or_as_in(file, name="kube-scheduler")
    assert (found.wanted, found.name, found.namespace, found.lease_duration) == (False, "mine", "here", "30s")
    assert (found.renew_deadline, found.retry_period) == ("10s", "2s")


def test_an_option_that_is_given_wins() -> None:
    given = Leading(
        wanted=False,
        name="given",
        namespace="kube-system",
        lease_duration="20s",
        renew_deadline="10s",
        retry_period="2s",
    )
    file = {"leaderElect": True, "resourceName": "mine", "leaseDuration": "30s"}
    found = given.or_as_in(file, name="kube-scheduler")
    assert (found.wanted, found.name, found.lease_duration) == (False, "given", "20s")


def test_times_of_a_file_that_do_not_fit_are_refused() -> None:
    for file in ({"leaseDuration": "5s"}, {"retryPeriod": "soon"}):
        with pytest.raises(typer.BadParameter):
            DEFAULTS.or_as_in(file, name="kube-scheduler").check()


def test_times_have_to_fit_where_somebody_is_elected_alone() -> None:
    elected = Leading(name="kube-scheduler", wanted=True, renew_deadline="1m")
    with pytest.raises(typer.BadParameter):
        elected.check()
    replace(elected, wanted=False).check()


def test_the_options_stand_in_a_command_where_it_names_what_they_make() -> None:
    app, got = typer.Typer(), []

    @app.command()
    @leads("boss")
    def command(name: str, *, leading: Leading, loud: bool = False) -> None:
        got.append((name, leading, loud))

    assert CliRunner().invoke(app, ["a"]).exit_code == 0
    options = ["b", "--loud", "--no-leader-elect", "--leader-elect-resource-name=chief"]
    assert CliRunner().invoke(app, options).exit_code == 0
    assert got == [
        ("a", Leading(name="boss"), False),
        ("b", Leading(name="chief", wanted=False), True),
    ]
