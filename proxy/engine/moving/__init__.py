"""Shards of what is stored are put anew, in other stores or under another policy, while everybody reads and writes."""
