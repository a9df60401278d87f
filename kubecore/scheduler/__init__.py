"""Chooses a node for every pod: queue, cache, framework and one file per plugin."""
