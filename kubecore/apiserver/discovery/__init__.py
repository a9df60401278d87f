"""What this server serves, told to clients: group, version and resource lists, legacy and aggregated."""
