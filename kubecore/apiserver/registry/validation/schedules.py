"""Cron schedules, as github.com/robfig/cron v3 reads them: five fields, or a descriptor."""

from __future__ import annotations

import re
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from kubecore.api import cron
from kubecore.api.cron import BadSchedule

_EVERY = re.compile(r"([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+")
_ZONE_PART = re.compile(r"[A-Za-z.\-_0-9+]{1,14}")


def check_schedule(text: str) -> None:
    """Raises BadSchedule for what no CronJob can follow."""
    if not text:
        raise BadSchedule("empty spec string")
    if text.startswith(("TZ=", "CRON_TZ=")):
        zone, space, text = text.partition("=")[2].partition(" ")
        if not space:
            raise BadSchedule("invalid schedule format: runtime error: slice bounds out of range [:-1]")
        if not _is_known(zone):
            raise BadSchedule(f"provided bad location {zone}: unknown time zone {zone}")
        text = text.strip()
    if text.startswith("@"):
        _check_descriptor(text)
        return
    cron.fields(text)


def _check_descriptor(text: str) -> None:
    if text in cron.DESCRIPTORS:
        return
    every, duration = "@every ", text.removeprefix("@every ")
    if not text.startswith(every):
        raise BadSchedule(f"unrecognized descriptor: {text}")
    if duration != "0" and _EVERY.fullmatch(duration.removeprefix("-").removeprefix("+")) is None:
        raise BadSchedule(f'failed to parse duration {text}: time: invalid duration "{duration}"')


def zone_errors(name: str) -> list[str]:
    """What is wrong with the name of a zone of the IANA database; "Local" depends on the machine and is none."""
    for part in name.split("/"):
        if part in (".", "..") or part.startswith("-") or _ZONE_PART.fullmatch(part) is None:
            return [f"unknown time zone {name}"]
    errors = []
    if name.lower() == "local":
        errors.append("timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones")
    if name != "Local" and not _is_known(name):
        errors.append(f"unknown time zone {name}")
    return errors


def _is_known(name: str) -> bool:
    try:
        ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
