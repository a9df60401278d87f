"""Nodes without machines and pods without processes, thousands of them in one process, for studies of scale."""
