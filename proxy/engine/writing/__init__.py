"""The write path: a body becomes segments, their shards lie in the stores, then a version is visible."""
