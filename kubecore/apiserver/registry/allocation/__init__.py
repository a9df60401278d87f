"""What there is only so much of: addresses of Services and ports of nodes."""
