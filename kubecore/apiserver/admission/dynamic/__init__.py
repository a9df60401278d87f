"""Admission by what is stored: webhooks."""
