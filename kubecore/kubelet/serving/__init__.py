"""What a node answers: logs, streams, statistics and metrics, by its HTTPS server."""
