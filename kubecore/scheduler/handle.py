"""What a plugin is made with: the scheduler's own things that it may use. (kubernetes `framework.Handle`.)"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kubecore.client.client import Client
from kubecore.client.informer import InformerFactory
from kubecore.clock import Clock
from kubecore.scheduler.cache import Cache
from kubecore.scheduler.extenders import Extenders
from kubecore.scheduler.pods import PodInfo
from kubecore.scheduler.profile import Profile
from kubecore.scheduler.reporting import Reporter
from kubecore.scheduler.waiting_pods import WaitingPods

if TYPE_CHECKING:
    from kubecore.scheduler.metrics import SchedulerMetrics


@dataclass(slots=True, kw_only=True)
class Handle:
    client: Client
    clock: Clock
    informers: InformerFactory
    cache: Cache
    waiting: WaitingPods
    reporter: Reporter
    spawn: Callable[[Coroutine[Any, Any, None], str], None]
    """Run a coroutine, which must not raise, beside the scheduling, under that name."""
    activate: Callable[[str], None]
    """Try the pod of that key soon, if it waits, without waiting for an event that can help it."""
    reopen: Callable[[str], None]
    """The gate of a PreEnqueue plugin that `tells` is open for the pod of that key: events matter to it from now on."""
    take_back_nomination: Callable[[PodInfo], None]
    """Do not keep room for the pod any longer."""
    metrics: SchedulerMetrics
    extenders: Extenders = field(default_factory=Extenders)
    profile: Profile = field(default_factory=lambda: Profile({}))
    """That the plugin is part of; complete once all plugins have been made."""
