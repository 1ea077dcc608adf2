"""Status: all that an operator has to know at 3 a.m., on one page.

Facts are gathered first, whoever is down or hangs: what the manifest knows for good, what a server that runs here says of its stores, what
the stores answer now. Then one pure function says what is wrong, how bad it is, and which command deals with it. Whoever prints decides
nothing.
"""
