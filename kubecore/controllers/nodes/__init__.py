"""Nodes that fall silent, and the pods that were on them."""
