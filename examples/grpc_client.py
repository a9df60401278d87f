"""Write, list and watch ConfigMaps over gRPC, as whoever a kubeconfig names.

python examples/grpc_client.py [KUBECONFIG [HOST:PORT]]     by default of `kubecore up`: ~/.kubecore, 127.0.0.1:6444
"""

from __future__ import annotations

import asyncio
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


if __name__ == "__main__":
    given = sys.argv[1:]
    asyncio.run(
        main(
            Path(given[0] if given else "~/.kubecore/admin.kubeconfig").expanduser(),
            given[1] if len(given) > 1 else "127.0.0.1:6444",
        )
    )
