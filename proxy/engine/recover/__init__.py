"""Recover: a manifest from what lies in the stores, the configuration and the root key."""
