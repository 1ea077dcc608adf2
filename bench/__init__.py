"""The bench: Shardgate beside two yardsticks, measured by the same lean client in the same run on the same disk."""
