"""The verbs: write, read, copy, delete, multipart, list, collect. All concurrency lives here.

A request calls a verb (`verbs`). A body goes through `writing`, or through `packing` if it is small. What is read comes through `reading`.
`placing` says where shards go, and `memory` how much may be under way. Everything else is background work.
"""
