"""Lifecycle rules, carried out."""
