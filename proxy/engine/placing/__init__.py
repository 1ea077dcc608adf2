"""Which store gets which shard, and whether what is stored keeps its policy's promises."""
