"""From when until when certificates hold that the cluster issues, the one place that decides it.

The cluster judges certificates by its own clock, programs outside by the machine's. In virtual time the two differ, so
what both are to accept holds at both.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography import x509

    from kubecore.clock import Clock


def validity(clock: Clock, lifetime: timedelta, *, backdated: timedelta) -> tuple[datetime, datetime]:
    """First and last moment of a certificate made now that is good for `lifetime` by either clock."""
    earlier, later = sorted((clock.now(), clock.machine_now()))
    return earlier - backdated, later + lifetime


def holds(certificate: x509.Certificate, clock: Clock, ahead: timedelta) -> bool:
    """By either clock: whether the certificate is valid now, and `ahead` from now too."""
    earlier, later = sorted((clock.now(), clock.machine_now()))
    return certificate.not_valid_before_utc <= earlier and later + ahead < certificate.not_valid_after_utc
