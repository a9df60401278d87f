"""The messages of the gRPC API, generated from proto/kubecore/v1 (`make proto`)."""
