"""Keeps as many pods as a ReplicationController asks for. (kubernetes `pkg/controller/replication`.)"""

from __future__ import annotations

from kubecore.api.selectors import Selector
from kubecore.client.client import Object
from kubecore.controllers.workloads.replicaset import ReplicaSetController


class ReplicationManager(ReplicaSetController):
    """Keys are ReplicationControllers: ReplicaSets with a selector of equalities, older than groups and versions."""

    name = "replication-controller"
    queue_name = "replicationmanager"
    resource = "replicationcontrollers"
    api_version = "v1"
    kind = "ReplicationController"
    tells_terminating = False

    def selector(self, replica_set: Object) -> Selector:
        return Selector.from_set(replica_set["spec"]["selector"])
