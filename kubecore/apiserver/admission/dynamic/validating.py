"""ValidatingAdmissionWebhook: webhooks judge a request, all of them at once.

After upstream k8s.io/apiserver pkg/admission/plugin/webhook/validating/dispatcher.go.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kubecore.api.errors import StatusError
from kubecore.apiserver.admission.dynamic.asking import Asking, CallFailed, refusal

if TYPE_CHECKING:
    from kubecore.api.scheme import Resource
    from kubecore.apiserver.admission.dynamic.mutating import Matched
    from kubecore.apiserver.admission.dynamic.subjects import Subject
    from kubecore.apiserver.admission.dynamic.webhooks import Webhook

log = logging.getLogger(__name__)

_FAILED_OPEN = "failed-open.validating.webhook.admission.k8s.io/"


async def validate(asking: Asking, subject: Subject, webhooks: Sequence[Matched]) -> None:
    """Raises StatusError when one of them refuses: the error of the one that answered first."""
    wanted = [
        (webhook, target)
        for _, webhook, target in webhooks
        if await asking.wanted(webhook, subject, target, mutating=False)
    ]
    if not wanted:
        return
    subject.ctx.seconds_left()
    refusals: list[StatusError] = []
    calls = [_ask(asking, webhook, subject, target, at, refusals) for at, (webhook, target) in enumerate(wanted)]
    await asking.together(subject.ctx, calls)
    if refusals:
        raise refusals[0]


async def _ask(
    asking: Asking, webhook: Webhook, subject: Subject, target: Resource, at: int, refusals: list[StatusError]
) -> None:
    form = await subject.form(target)
    try:
        call = asking.ask(webhook, subject, target, form, mutating=False)
        await asking.counted(webhook, subject, call, mutating=False)
    except CallFailed as failed:
        if webhook.ignores_failure:
            log.warning("%s; failing open", failed)
            asking.metrics.failed_open(webhook.name, mutating=False)
            subject.ctx.annotate(f"{_FAILED_OPEN}round_0_index_{at}", webhook.name)
            return
        log.warning("%s; failing closed", failed)
        refusals.append(refusal(failed))
    except StatusError as error:
        refusals.append(error)
