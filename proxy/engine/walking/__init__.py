"""All extents, one after the other, shown to whoever counts them or holds them against their policies."""
