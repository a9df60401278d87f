"""Admission by what is stored: webhooks, and policies written in CEL."""
