"""What options may be given, and clear words about what may not: checked before anything is loaded or started.

Every check takes the option's text and gives it back, or raises BadParameter, which ends the command with status 2.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kubecore.api import durations

if TYPE_CHECKING:
    from kubecore.apiserver.admission.options import AdmissionOptions
    from kubecore.scheduler.scheduler import SchedulerConfig

# kube-apiserver's
_LEAST_SERVICE_ADDRESSES, _SHORTEST_V6_PREFIX = 8, 64
# kube-controller-manager's default for a node's share, by the address family's version.
_LONGEST_POD_PREFIX = {4: 24, 6: 64}
PRIMARY = "primary"
"""kube-proxy's word for a node's own addresses."""
AUTHORIZATION_MODES = ("Node", "RBAC", "ABAC", "Webhook", "AlwaysAllow", "AlwaysDeny")


def one_of(there: Sequence[str], *, to_come: Sequence[str] = ()) -> Callable[[str], str]:
    """Only these; `to_come` are known names of what this version does not have."""
    listed = ", ".join(filter(None, there))

    def check(text: str) -> str:
        if text in there:
            return text
        if text in to_come:
            raise typer.BadParameter(f"{text!r} is not part of this version yet; there is: {listed}")
        raise typer.BadParameter(f"{text!r} is not one of: {listed}")

    return check


def folder(path: Path) -> Path:
    """Absolute, with `~` followed, and without `..`."""
    try:
        found = path.expanduser().absolute()
    except RuntimeError:  # neither $HOME nor an entry in the password file
        raise typer.BadParameter(f"{str(path)!r}: this user has no home directory, choose another folder") from None
    # Where a symbolic link's folder is in matters only there.
    return Path(os.path.realpath(found)) if ".." in found.parts else found


def named(path: str | Path) -> Path:
    """Of what was given: as a Path, nothing at all (of a variable that is not set) would be the working directory."""
    if not path:
        raise typer.BadParameter("it must name a folder")
    return Path(path)


DATA_DIR = Path("~/.kubecore")
"""Of a cluster of which nobody has said where it is."""
KEPT_THERE = "Where certificates, objects and pods' files live."
DataDir = Annotated[Path, typer.Option(parser=named, metavar="<path>", callback=folder, help=KEPT_THERE)]


def folder_if_any(path: Path | None) -> Path | None:
    return None if path is None else folder(path)


def file_to_append_to(path: Path | None) -> Path | None:
    """In a folder that exists, and writable where it is there."""
    found = folder_if_any(path)
    if found is None:
        return None
    if not found.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {found.parent}")
    if found.is_dir():
        raise typer.BadParameter(f"{found} is a folder")
    if not os.access(found if found.exists() else found.parent, os.W_OK):
        raise typer.BadParameter(f"{found} cannot be written")
    return found


def not_yet(what: str) -> Callable[[str | int | None], str | int | None]:
    """An option that may not be given yet; `what` is a sentence that says what is not there."""

    def check(value: str | int | None) -> str | int | None:
        if value:
            raise typer.BadParameter(what)
        return value

    return check


def authorization_modes(text: str) -> str:
    """Comma separated, at least one, each once: kube-apiserver's words where it refuses."""
    modes = split(text)
    if not modes:
        raise typer.BadParameter("at least one authorization-mode must be passed")
    check = one_of(AUTHORIZATION_MODES)
    for mode in modes:
        check(mode)
        if modes.count(mode) > 1:
            raise typer.BadParameter(f"{mode!r} is specified more than once")
    return text


def admission(enable: str, disable: str, file: Path | None) -> AdmissionOptions:
    """Which plugins run, and their configuration: kube-apiserver's words where it refuses."""
    from kubecore.api.configuration_file import InvalidConfiguration, unread
    from kubecore.apiserver.admission import options, plugins

    enabled, disabled = split(enable), split(disable)
    if wrong := options.misnamed(enabled, disabled):
        raise typer.BadParameter("; ".join(wrong))
    try:
        found = options.AdmissionOptions(enable=enabled, disable=disabled)
        if file is not None:
            found = replace(found, configuration=options.read_configuration(file, found.plugins))
        plugins.configured(found)
    except OSError as error:
        raise _unreadable(f'unable to read admission control configuration from "{file}" [{unread(error)}]') from None
    except (InvalidConfiguration, UnicodeDecodeError) as error:
        raise _unreadable(str(error)) from None
    return found


def _unreadable(told: str) -> typer.BadParameter:
    return typer.BadParameter(told, param_hint="'--admission-control-config-file'")


def runtime_config(text: str) -> str:
    """Comma separated `KEY=VALUE` or `KEY`: versions to serve, in kube-apiserver's words where it refuses."""
    from kubecore.api import enablement

    try:
        enablement.served(dict(settings(text)))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return text


def settings(text: str) -> tuple[tuple[str, str], ...]:
    """`a=b,c` as pairs; what has no value has an empty one."""
    return tuple((key.strip(), value.strip()) for key, _, value in (one.partition("=") for one in split(text)))


def ip_address(text: str, option: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=f"'{option}'") from None


def service_ranges(text: str) -> str:
    """One range of cluster IPs, or one of each family, comma separated; comes back without the bits behind prefixes.

    In kube-apiserver's words where it refuses, but that a wrong range is shown and not counted."""
    given = text.split(",")
    if len(given) > 2:
        raise typer.BadParameter("must not contain more than two entries")
    found = []
    for one in given:
        try:
            found.append(ipaddress.ip_network(one.strip(), strict=False))
        except ValueError:
            raise typer.BadParameter(f"{one.strip()!r} is not a valid cidr (such as 10.96.0.0/16)") from None
    for network in found:
        if network.num_addresses < _LEAST_SERVICE_ADDRESSES:
            raise typer.BadParameter(
                f"{network}: the service cluster IP range must be at least {_LEAST_SERVICE_ADDRESSES} IP addresses"
            )
        if network.version == 6 and network.prefixlen < _SHORTEST_V6_PREFIX:
            raise typer.BadParameter(
                f"shortest allowed prefix length for service CIDR is {_SHORTEST_V6_PREFIX}, got {network.prefixlen}"
            )
    if len(found) == 2 and found[0].version == found[1].version:
        raise typer.BadParameter("[0] and [1] must be of different IP family")
    return ",".join(map(str, found))


def pod_ranges(text: str) -> str:
    """One range of pods, or one of each family, comma separated; none is allowed. kube-controller-manager's words."""
    found = []
    for one in split(text):
        try:
            found.append(ipaddress.ip_network(one, strict=False))
        except ValueError as error:
            raise typer.BadParameter(f"invalid CIDR address: {error}; such as 10.244.0.0/16") from None
    if len(found) > 2:
        raise typer.BadParameter(f"length of clusterCIDRs is:{len(found)} more than max allowed of 2")
    if len(found) == 2 and found[0].version == found[1].version:
        raise typer.BadParameter(
            "len of ClusterCIDRs==2 and they are not configured as dual stack (at least one from each IPFamily"
        )
    for network in found:
        if network.prefixlen > _LONGEST_POD_PREFIX[network.version]:
            raise typer.BadParameter(f"{network} has no room for a node's /{_LONGEST_POD_PREFIX[network.version]}")
    return ",".join(map(str, found))


def service_ranges_if_any(text: str) -> str:
    return service_ranges(text) if text else ""


def networks(text: str) -> str:
    """Comma separated ranges in CIDR notation; none is allowed."""
    for one in split(text):
        try:
            ipaddress.ip_network(one)
        except ValueError as error:
            raise typer.BadParameter(f"{error}; a range such as 10.244.0.0/16 is expected") from None
    return text


def networks_or_primary(text: str) -> str:
    """Ranges, or that word alone."""
    return text if text == PRIMARY else networks(text)


def address_and_port(text: str) -> str:
    """`ADDRESS:PORT`, an address alone is not enough; empty is allowed."""
    if text:
        try:
            host_and_port(text)
        except ValueError:
            raise typer.BadParameter(f"{text!r} is not ADDRESS:PORT, such as 127.0.0.1:10249") from None
    return text


def host_and_port(text: str) -> tuple[str, int] | None:
    """Of a checked address and port; None for an empty text."""
    if not text:
        return None
    host, _, port = text.rpartition(":")
    address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    if not (port.isdecimal() and int(port) < 65536):
        raise ValueError(text)
    return str(address), int(port)


def port_range(text: str) -> str:
    """`FIRST-LAST`, both included."""
    first, dash, last = text.partition("-")
    if not (dash and first.isdecimal() and last.isdecimal() and 0 < int(first) <= int(last) < 65536):
        raise typer.BadParameter(f"{text!r} is not a range of ports such as 30000-32767")
    return text


def scheduler_config(file: Path | None, option: str) -> SchedulerConfig | None:
    """What a KubeSchedulerConfiguration says; None without a file. BadParameter in kube-scheduler's words, which names
    the `option` that gave the file."""
    if file is None:
        return None
    from kubecore.api.configuration_file import InvalidConfiguration
    from kubecore.scheduler.configuration import load
    from kubecore.scheduler.profiles import InvalidProfile, check_known

    try:
        config = load(file.read_text())
        check_known(config.profiles)
        return config
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint=f"'{option}'") from None
    except (InvalidConfiguration, InvalidProfile, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file}: {error}", param_hint=f"'{option}'") from None


def ports(text: str) -> range:
    """The ports of a checked range."""
    first, _, last = text.partition("-")
    return range(int(first), int(last) + 1)


def lasting(text: str) -> str:
    """A duration as Go writes it, not less than nothing."""
    try:
        if durations.seconds(text) < 0:
            raise ValueError(f"{text} is less than nothing")
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return text


def file(help: str) -> Any:
    """An option for a file that must be there."""
    return typer.Option(help=help, exists=True, dir_okay=False, resolve_path=True)


def split(text: str) -> tuple[str, ...]:
    """The parts of a comma separated list, without blanks."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
