"""A simulation that tries to lose data: whole proxies, clients and failing providers in one thread, in an order that chance decides.

The problem. Data is lost between steps: a process dies after a shard is put and before the commit, a lease runs out while a put is under
way, two clients meet at one key. Tests that write down one such order each find what their authors thought of.

The idea. Everything that can be early or late waits for its turn: each request to a store, its answer, each step of the manifest. One
scheduler gives the turns, and the order is drawn by hypothesis. Time is simulated as well, and moves when nobody can go on, or when chance
says so. Nothing is left to threads, so what a seed shows once it shows again, and a failure shrinks to few steps.

What is real: services, engine, codec, keyring, workers and their runner, SQLite and its files. What is simulated: threads (steps run where
they are called), time, the network, and the providers, which are `FaultyStore`s over dictionaries.

- `loop`: an event loop without threads, on simulated time.
- `turns`: who waits for what, and who goes next.
- `network`: requests that travel to a store and back, also after their process has died.
- `process`: one proxy; it is killed by never giving it another turn.
- `history`, `linearizable`: what clients saw of each key, and whether one order of steps explains it all.
- `clients`: what clients do, and how that is put down in the history.
- `world`: all of it together, and what must be true at the end.
- `rules`: the state machine that hypothesis drives.
"""
