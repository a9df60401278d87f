"""The `cri` runtime: pods run under a container runtime that speaks Kubernetes' Container Runtime Interface."""
