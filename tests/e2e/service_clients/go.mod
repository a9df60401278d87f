module kubecore.dev/tests/service_clients

go 1.23
