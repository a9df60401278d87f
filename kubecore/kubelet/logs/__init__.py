"""Containers' logs on disk: written, rotated, read and followed."""
