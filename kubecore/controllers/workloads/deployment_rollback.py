"""Takes a Deployment back to a former revision, as the annotation asks that is left of `spec.rollbackTo`.

(kubernetes `pkg/controller/deployment/rollback.go`; kubectl writes the old template itself.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from kubecore.api import meta
from kubecore.client.client import Client, Object
from kubecore.client.events import EventRecorder
from kubecore.controllers.workloads import deployment_replicas as sizing

_REVISION = re.compile(r"[+-]?[0-9]{1,19}").fullmatch
_LARGEST = 2**63 - 1


def wanted_revision(deployment: Object) -> int | None:
    """The revision to go back to, 0 for the one before; None where nobody asks for any."""
    text = meta.annotations(deployment).get(sizing.ROLLBACK_TO) or ""
    wanted = int(text) if _REVISION(text) else None
    return wanted if wanted is not None and -_LARGEST - 1 <= wanted <= _LARGEST else None


async def roll_back(
    client: Client, recorder: EventRecorder, deployment: Object, sets: Iterable[Object], wanted: int
) -> None:
    """Writes the template of the ReplicaSet of that revision into the deployment, and takes the wish out of it in any
    case. `sets`: all of its ReplicaSets, that of the present template among them; `deployment` is changed."""
    by_revision = {sizing.revision(one): one for one in sets}
    target = by_revision.get(wanted or _last(by_revision))
    name = meta.name(deployment)
    event = ("Warning", "DeploymentRollbackRevisionNotFound", "Unable to find the revision to rollback to.")
    if not wanted and not _last(by_revision):
        event = ("Warning", "DeploymentRollbackRevisionNotFound", "Unable to find last revision.")
    elif target is not None and _adopt(deployment, target):
        told = f'Rolled back deployment "{name}" to revision {sizing.revision(target)}'
        event = ("Normal", "DeploymentRollback", told)
    elif target is not None:
        told = f'The rollback revision contains the same template as current deployment "{name}"'
        event = ("Warning", "DeploymentRollbackTemplateUnchanged", told)
    meta.annotations(deployment).pop(sizing.ROLLBACK_TO, None)
    is_failure = event[0] == "Warning"
    if is_failure:
        recorder.event(deployment, *event)
    await client.update("deployments.apps", deployment)
    if not is_failure:
        recorder.event(deployment, *event)


def _last(revisions: Iterable[int]) -> int:
    """The revision before the newest; 0 for none."""
    return ([0, 0, *sorted(revisions)])[-2]


def _adopt(deployment: Object, replica_set: Object) -> bool:
    """Gives the deployment the template, and the annotations, that the ReplicaSet was made with; whether the template
    is another."""
    template = sizing.comparable_template(replica_set["spec"]["template"])
    if sizing.comparable_template(deployment["spec"]["template"]) == template:
        return False
    deployment["spec"]["template"] = meta.deepcopy(template)
    own = {key: value for key, value in meta.annotations(deployment).items() if key in sizing.NOT_COPIED}
    given = {key: value for key, value in meta.annotations(replica_set).items() if key not in sizing.NOT_COPIED}
    deployment["metadata"]["annotations"] = {**own, **given}
    return True
