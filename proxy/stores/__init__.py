"""Upstream buckets behind one protocol."""
