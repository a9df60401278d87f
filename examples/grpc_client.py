"""Write, list and watch ConfigMaps over gRPC, as whoever a kubeconfig names.

python examples/grpc_client.py [KUBECONFIG [HOST:PORT]]

By default of `kubecore up`: its ~/.kubecore/admin.kubeconfig, and the gRPC port that it has noted beside a kubeconfig.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from kubecore.client.grpc import connect
from kubecore.client.kubeconfig import Kubeconfig

PATH, NAMESPACE = "v1/configmaps", "default"


async def main(kubeconfig: Path, target: str) -> None:
    who = Kubeconfig.load(kubeconfig)
    async with connect(
        target, ca=who.certificate_authority, certificate=who.client_certificate, key=who.client_key, token=who.token
    ) as objects:
        listing = await objects.list(PATH, NAMESPACE)
        print(f"{len(listing.items)} ConfigMaps at resourceVersion {listing.resource_version}")
        made = await objects.create(PATH, {"metadata": {"generateName": "over-grpc-"}, "data": {"k": "v"}}, NAMESPACE)
        print(f"created {made.decode()['metadata']['name']}")
        # From the revision of the list: what has happened since comes first, many events in a message.
        async for events in objects.watch(PATH, NAMESPACE, resource_version=listing.resource_version):
            for event in events:
                print(event.type, event.item.decode()["metadata"]["name"])
            break


def noted_target(kubeconfig: Path) -> str:
    """Where the cluster with this kubeconfig in its data directory serves gRPC; `kubecore up`'s default elsewhere."""
    ports = kubeconfig.with_name("ports.json")
    noted = json.loads(ports.read_text()) if ports.exists() else {}
    return f"127.0.0.1:{noted.get('grpc', 6444)}"


if __name__ == "__main__":
    given = sys.argv[1:]
    kubeconfig = Path(given[0] if given else "~/.kubecore/admin.kubeconfig").expanduser()
    asyncio.run(main(kubeconfig, given[1] if len(given) > 1 else noted_target(kubeconfig)))
