"""A day of a cluster in some seconds: its clock is the program's, its nodes are simulated.

    python examples/virtual_day.py

prints when the runs of a CronJob were made, and how often a pod that crashes was restarted meanwhile.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from kubecore.client.client import Client
from kubecore.clock import VirtualClock
from kubecore.cluster import Cluster, ClusterConfig

CONTAINER = {"name": "main", "image": "any"}
CRON_JOB = {
    "metadata": {"name": "report", "namespace": "default"},
    "spec": {
        "schedule": "30 */6 * * *",
        "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [CONTAINER]}}}},
    },
}
CRASHING = {
    "metadata": {
        "name": "crashing",
        "namespace": "default",
        "annotations": {"simulation.kubecore.dev/run-for": "30s", "simulation.kubecore.dev/exit-code": "1"},
    },
    "spec": {"containers": [CONTAINER]},
}


async def main() -> None:
    clock = VirtualClock()
    with tempfile.TemporaryDirectory() as folder:
        config = ClusterConfig(
            data_dir=Path(folder), secure_port=0, grpc_port=0, nodes=0, simulated_nodes=1, durable=False
        )
        cluster = Cluster(config, clock)
        await clock.drive(cluster.start())
        # Any other client would do: cluster.kubeconfig is an administrator's.
        client = Client(cluster.server.transport(username="me", groups=["system:masters"]), field_manager="example")
        await client.create("cronjobs.batch", CRON_JOB)
        await client.create("pods", CRASHING)
        for _ in range(4):
            await clock.advance(6 * 3600)
            job = (await client.get("cronjobs.batch", "report", "default"))["status"]
            print("last run:", job["lastScheduleTime"])
        pod = await client.get("pods", "crashing", "default")
        print("restarts:", pod["status"]["containerStatuses"][0]["restartCount"])
        await clock.drive(cluster.stop())


if __name__ == "__main__":
    asyncio.run(main())
