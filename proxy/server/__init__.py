"""The HTTP face: the only place that knows requests and responses."""
