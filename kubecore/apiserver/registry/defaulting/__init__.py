"""Defaults shared by kinds: what a client sees on read-back that no schema says."""
