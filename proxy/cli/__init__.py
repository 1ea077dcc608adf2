"""The `shardgate` command: one command a file; argument parsing and printing only."""
