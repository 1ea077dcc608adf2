"""Connections, and what comes and goes over them: no word of S3."""
