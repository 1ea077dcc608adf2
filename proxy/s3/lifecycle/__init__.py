"""Lifecycle: what a bucket's configuration says, whether it is one, and what becomes of an object under it."""
