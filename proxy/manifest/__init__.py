"""Durable knowledge of what lies where."""
