"""A Python client of the gRPC API. Importing it loads grpc.

>>> async with connect("127.0.0.1:6444", ca=ca_pem, token=token) as objects:
...     pod = await objects.get("v1/pods", "web", "default")
...     pod.decode()["status"]["phase"]
"""

from kubecore.client.grpc.client import Event, GrpcClient, Item, Listing, Operation, connect

__all__ = ["Event", "GrpcClient", "Item", "Listing", "Operation", "connect"]
