"""What goes out behind the requests: logs, inventories, events, and replicas."""
