"""Pure bytes to bytes: the stored format, geometry, keys, cells, erasure code. No I/O, no clock, no threads."""
