"""Claims and persistent volumes, from binding to reclaiming."""
