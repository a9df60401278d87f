"""The gRPC listener. Importing it loads grpc (0.2 s, 17 MB): do so only once the server is ready."""

from kubecore.apiserver.grpc.server import GrpcServer

__all__ = ["GrpcServer"]
