"""Validation rules shared by kinds, each module one subject; all return causes in Kubernetes' words."""
