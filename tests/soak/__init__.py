"""Minutes of trouble, all of it at once: clients work while processes are killed, a store lies, loses and goes away, and shards move.

`python -m tests.soak --minutes 10` (or `make soak`) exits 1 if an acknowledged write is ever lost, another body read than the one
acknowledged last, a shard left over that the manifest does not know, or one missing that it does. The last two are counted at the stores,
after `fsck --apply` has had its say as an operator would give it: a recovery leaves to it what it can make nothing of. What it finds must
have come about by that, or by what the store did that misbehaves.

Each client has keys of its own, so what must be there is known: exactly what was acknowledged or, after a request that broke off, one
of two. All damage is done to one store, a provider that speaks S3 and misbehaves in every way there is; another store is drained: together
they are what the policy promises to bear. In the middle the manifest is deleted and recovered, with everybody at work until that instant;
at the end, when all is quiet, once more. The journal acknowledges everything, so nothing that was acknowledged may be undone by that.

- `site`: the servers, their stores, and the commands that are given beside them.
- `clients`: what clients do, and what they must find.
- `trouble`: what goes wrong, one thing after the other.
"""
