"""Repair: what is wrong with stored segments is looked at once more, made good, and forgotten."""
