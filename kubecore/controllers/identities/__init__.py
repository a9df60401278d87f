"""Accounts, tokens, certificates and roles that the cluster itself hands out."""
