"""What operators see of a node: logs, metrics, health and status over HTTP."""
