"""Mistakes that the tests must notice: `make mutants` puts each into a copy of the tree, and runs the tests that should fail.

Each area has a TOML file here. An entry is one realistic mistake: a text that stands exactly once in its file, what it becomes, a line of
why it matters, and the tests that should notice. When code changes, so does the entry: a text that is not found is an error.
"""
