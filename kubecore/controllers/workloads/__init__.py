"""Sets of pods that are kept running: ReplicaSets, Deployments, StatefulSets, DaemonSets."""
