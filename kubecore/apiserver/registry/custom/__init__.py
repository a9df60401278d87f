"""Custom resources on the generic registry: what a definition says, and the strategy and store of each version."""
