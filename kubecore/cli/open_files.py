"""How many files, sockets and namespaces this process may hold open."""

from __future__ import annotations

import resource
from contextlib import suppress

# What container runtimes give their containers, too, which inherit it. More makes programs slow that close them all.
MOST = 1 << 20


def allow_many() -> None:
    """Raise the limit as far as this user may: a pod alone takes a dozen, and most systems begin with 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return
    with suppress(OSError, ValueError):  # the kernel's own maximum may be lower
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
