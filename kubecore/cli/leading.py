"""Options of leader election, with Kubernetes' names, and the work that is done while leading."""

from __future__ import annotations

import re
import socket
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from kubecore.cli.option_groups import headings_of, stands_for

if TYPE_CHECKING:
    from kubecore.client.client import Client
    from kubecore.clock import Clock

_DURATION = re.compile(r"([0-9]*\.?[0-9]+)(ms|h|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_TRUE, _FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")


def seconds(text: str) -> float:
    """Of a duration as Go writes it: 15s, 1m30s, 500ms."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise typer.BadParameter(f"{text!r} is not a duration such as 15s or 1m30s")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def duration(text: str) -> str:
    seconds(text)
    return text


def positive_duration(text: str) -> str:
    if seconds(text) <= 0:
        raise typer.BadParameter(f"{text} is not more than nothing")
    return text


class GoFlags(TyperCommand):
    """Flags may be given as Go's are: `--leader-elect=false` besides `--no-leader-elect`. The help has options under
    the headings that the command gives them."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        headings = headings_of(self.callback)
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        sections |= {heading: [] for heading in headings.values()}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections[headings.get(parameter.name or "", "Options")].append(record)
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Raises BadParameter for what is neither true nor false."""
        flags = {name for param in self.params if getattr(param, "is_flag", False) for name in param.opts}
        return super().parse_args(ctx, [_as_flag(one, flags) for one in args])


def _as_flag(argument: str, flags: set[str]) -> str:
    name, given, value = argument.partition("=")
    if not given or name not in flags:
        return argument
    if value not in _TRUE + _FALSE:
        raise typer.BadParameter(f"{name}={value}: true or false is expected")
    return name if value in _TRUE else f"--no-{name.removeprefix('--')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leading:
    """What was asked for; `name` and `namespace` are the lease's."""

    wanted: bool = True
    name: str
    namespace: str = "kube-system"
    lease_duration: str = "15s"
    renew_deadline: str = "10s"
    retry_period: str = "2s"

    def or_as_in(self, file: Mapping[str, Any], *, name: str) -> Leading:
        """With what a component's configuration file says (`leaderElection`) in place of options that have their
        defaults; `name` is that of the lease's name.
        """
        fields = {
            "wanted": "leaderElect",
            "name": "resourceName",
            "namespace": "resourceNamespace",
            "lease_duration": "leaseDuration",
            "renew_deadline": "renewDeadline",
            "retry_period": "retryPeriod",
        }
        untouched = Leading(name=name)
        changes = {
            option: file[field]
            for option, field in fields.items()
            if getattr(self, option) == getattr(untouched, option) and file.get(field) not in (None, "")
        }
        return replace(self, **changes)

    def check(self) -> None:
        """Raises BadParameter for times that do not fit together. Where nobody is elected they need not."""
        if not self.wanted:
            return
        try:
            self._times()
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    def _times(self) -> Any:
        from kubecore.client.leader_election import LeaseTimes

        return LeaseTimes(
            duration=seconds(self.lease_duration),
            renew_deadline=seconds(self.renew_deadline),
            retry_period=seconds(self.retry_period),
        )

    async def run(self, client: Client, clock: Clock, work: Callable[[], Awaitable[None]]) -> None:
        """`work`, once it is this process's turn. Raises LeadershipLost."""
        if not self.wanted:
            await work()
            return
        from kubecore.client.leader_election import LeaderElection

        identity = f"{socket.gethostname()}_{uuid.uuid4()}"
        election = LeaderElection(
            client, clock, self.name, identity=identity, namespace=self.namespace, times=self._times()
        )

        async def lead() -> None:
            await work()

        def stand_by(holder: str) -> None:
            typer.echo(f"kubecore: {self.name} stands by: the lease is held by {holder}")

        await election.run(lead, stand_by)


_DEFAULT = Leading(name="")


def _asked(
    leader_elect: Annotated[
        bool, typer.Option("--leader-elect/--no-leader-elect", help="Work only while holding the lease of this name.")
    ] = _DEFAULT.wanted,
    leader_elect_lease_duration: Annotated[
        str, typer.Option(callback=duration, help="Silence of a leader after which another takes over.")
    ] = _DEFAULT.lease_duration,
    leader_elect_renew_deadline: Annotated[
        str, typer.Option(callback=duration, help="In which a leader must renew, or it ends.")
    ] = _DEFAULT.renew_deadline,
    leader_elect_retry_period: Annotated[
        str, typer.Option(callback=duration, help="Between two tries to acquire or renew.")
    ] = _DEFAULT.retry_period,
    leader_elect_resource_name: Annotated[str, typer.Option(help="Name of the lease.")] = _DEFAULT.name,
    leader_elect_resource_namespace: Annotated[str, typer.Option(help="Namespace of the lease.")] = _DEFAULT.namespace,
) -> Leading:
    return Leading(
        wanted=leader_elect,
        name=leader_elect_resource_name,
        namespace=leader_elect_resource_namespace,
        lease_duration=leader_elect_lease_duration,
        renew_deadline=leader_elect_renew_deadline,
        retry_period=leader_elect_retry_period,
    )


def leads(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """For a command with a parameter `leading`: the options of leader election stand in its place. `name` is that of
    the lease, unless another is asked for.
    """
    return stands_for("leading", _asked, "Leader election options", leader_elect_resource_name=name)
