"""Limits on memory where the kernel has no control groups for us: we look at what containers have, and end those that
have too much."""
