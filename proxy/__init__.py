"""Shardgate: an S3 endpoint that codes, seals and spreads every object over many clouds."""
