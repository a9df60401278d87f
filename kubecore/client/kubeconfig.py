"""Kubeconfig files, for clients (see `kubecore.api.kubeconfig`, which the API server reads its webhooks' with)."""

from __future__ import annotations

from kubecore.api.kubeconfig import Kubeconfig, KubeconfigError

__all__ = ["Kubeconfig", "KubeconfigError"]
