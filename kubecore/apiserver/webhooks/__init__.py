"""Calls that the API server makes to others over HTTPS."""
