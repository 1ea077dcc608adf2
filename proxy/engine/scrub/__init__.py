"""Scrub: is every shard where the manifest says, and is it what was put there?"""
