"""Tables: what `kubectl get` prints, made on the server."""

from kubecore.apiserver.tables.printing import row_for, table_for

__all__ = ["row_for", "table_for"]
