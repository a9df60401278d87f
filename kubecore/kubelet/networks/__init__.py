"""Addresses and ports of pods on the machine under the node."""
