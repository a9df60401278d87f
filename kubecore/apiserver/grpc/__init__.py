"""The gRPC API: `listener` waits for the first caller, `server` is loaded then (grpc costs 0.2 s and 17 MB)."""
