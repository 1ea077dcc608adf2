"""Inputs: those that are good, spoilt at random by words that matter."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.fuzz.targets import MAX_INPUT, Target

Edit = tuple[str, int, bytes, int]


def inputs(target: Target) -> st.SearchStrategy[bytes]:
    """Return a strategy of inputs for a target."""
    words = st.sampled_from(target.words) | st.binary(max_size=8)
    edits = st.tuples(st.sampled_from(("insert", "replace", "cut", "repeat")), st.integers(0, MAX_INPUT), words, st.integers(0, 300))
    spoilt = st.builds(_spoil, st.sampled_from(target.seeds), st.lists(edits, max_size=6))
    return spoilt | st.lists(words, max_size=40).map(b"".join)


def _spoil(seed: bytes, edits: list[Edit]) -> bytes:
    for kind, place, word, count in edits:
        at = place % (len(seed) + 1)
        if kind == "insert":
            seed = seed[:at] + word + seed[at:]
        elif kind == "replace":
            seed = seed[:at] + word + seed[at + len(word) :]
        elif kind == "cut":
            seed = seed[:at] + seed[at + count :]
        else:
            seed = seed[:at] + seed[at : at + count] * 3 + word * count + seed[at + count :]
    return seed[:MAX_INPUT]
