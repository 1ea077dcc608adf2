"""The cache of what was read: sealed, as it lies in the stores, in memory and perhaps in a directory."""
