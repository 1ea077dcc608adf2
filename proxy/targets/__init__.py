"""Targets: who is told of events. One module a kind."""
