"""`python -m bench.wan`: Shardgate over six distant buckets, beside one such bucket used directly."""
