"""Segments come back from their shards alone, whoever lies, as long as k shards are true."""

from __future__ import annotations

import itertools
from dataclasses import replace

import msgspec
import pytest

from proxy.codec.cells import CellCipher
from proxy.codec.decode import decode_segment
from proxy.codec.footer import Footer, parse_footer
from proxy.codec.geometry import Scheme
from proxy.codec.keys import Derivation, DerivedKeys, ShareCipher
from proxy.errors import CellForged, KeyUnavailable, NotEnoughShards, ShardMismatch
from tests.unit.codec.samples import DATA_KEY, LABEL, SEGMENT_ID, TENANT_KEY, keys_for, open_share, opened, pattern, seal

SCHEME = Scheme(4, 2)
DATA = pattern(300_001)
SHARDS = seal(SCHEME, DATA)
NAMES = list(SHARDS)
OTHER_ID = bytes(range(1, 17))


def footer_of(index: int) -> Footer:
    return parse_footer(SHARDS[NAMES[index]], name=NAMES[index], size_bytes=len(SHARDS[NAMES[index]]))


def with_footer(footer: Footer) -> dict[str, bytes]:
    cells = SHARDS[NAMES[footer.fixed.shard_index]][: footer.fixed.geometry.cells_size]
    return {footer.shard_name: cells + footer.pack()}


def lying_share(index: int) -> dict[str, bytes]:
    """A share that is not of the sharing, wrapped as it should be: whoever made it has the tenant key."""
    footer = footer_of(index)
    cipher = ShareCipher(Derivation(TENANT_KEY), SEGMENT_ID)
    return with_footer(replace(footer, wrapped_share=cipher.wrap(index, bytes(32), footer.fixed.pack())))


@pytest.mark.parametrize("scheme", [SCHEME, Scheme(1, 1), Scheme(1, 0), Scheme(2, 0), Scheme(3, 5)], ids=str)
def test_any_k_shards_give_bytes_and_label(scheme: Scheme) -> None:
    shards = seal(scheme, DATA)
    for chosen in itertools.combinations(shards, scheme.k):
        decoded = decode_segment({name: shards[name] for name in chosen}, open_share)
        assert (decoded.plaintext, decoded.label) == (DATA, LABEL)
        assert (decoded.fixed.segment_id, decoded.fixed.scheme) == (SEGMENT_ID, scheme)


def test_fewer_than_k_shards_give_nothing() -> None:
    with pytest.raises(NotEnoughShards, match="3 shards of the 4 needed"):
        decode_segment({name: SHARDS[name] for name in NAMES[:3]}, open_share)
    with pytest.raises(ShardMismatch, match="not shards of one segment"):
        decode_segment({}, open_share)


@pytest.mark.parametrize("liars", [(0,), (5,), (0, 5), (1, 2)])
def test_lying_shares_are_found_by_the_commitment(liars: tuple[int, ...]) -> None:
    shards = dict(SHARDS)
    for liar in liars:
        shards |= lying_share(liar)
    assert decode_segment(shards, open_share).plaintext == DATA


def test_one_liar_among_many_is_found_at_once_and_a_hopeless_search_ends() -> None:
    """There are 12,870 ways to take 8 shares of 16, and half of them hold the liar."""
    scheme, data = Scheme(8, 8), pattern(100)
    shards = seal(scheme, data)
    lies = seal(scheme, data, data_key=bytes(32))
    liars = {}
    for name, shard in shards.items():
        footer, lie = (parse_footer(whole, name=name, size_bytes=len(whole)) for whole in (shard, lies[name]))
        cipher = ShareCipher(Derivation(TENANT_KEY), SEGMENT_ID)
        forged = replace(footer, wrapped_share=cipher.wrap(footer.fixed.shard_index, open_share(lie), footer.fixed.pack()))
        liars[name] = shard[: footer.fixed.geometry.cells_size] + forged.pack()
    first = next(iter(shards))
    assert decode_segment(shards | {first: liars[first]}, open_share).plaintext == data
    with pytest.raises(NotEnoughShards, match="no 8 of 16 shares"):
        decode_segment(liars, open_share)


def test_one_true_share_too_few_gives_no_key() -> None:
    shards = {name: SHARDS[name] for name in NAMES[:3]} | lying_share(3) | lying_share(4)
    with pytest.raises(NotEnoughShards, match="no 4 of 5 shares give a key that their shards commit to"):
        decode_segment(shards, open_share)


def test_footers_that_claim_something_else_do_not_outvote_k_true_ones() -> None:
    lies = {}
    for index in (0, 1):
        footer = footer_of(index)
        fixed = replace(footer.fixed, commitment=bytes(32))
        cipher = ShareCipher(Derivation(TENANT_KEY), SEGMENT_ID)
        lies |= with_footer(replace(footer, fixed=fixed, wrapped_share=cipher.wrap(index, open_share(footer), fixed.pack())))
    assert decode_segment(SHARDS | lies, open_share).plaintext == DATA


def test_a_footer_changed_after_it_was_sealed_opens_no_share() -> None:
    footer = footer_of(2)
    forged = with_footer(replace(footer, fixed=replace(footer.fixed, commitment=bytes(32))))
    with pytest.raises(NotEnoughShards, match=f"{NAMES[2]}: the share of shard 2 does not open"):
        decode_segment({name: SHARDS[name] for name in (NAMES[0], NAMES[1], NAMES[3])} | forged, open_share)
    assert decode_segment(SHARDS | forged, open_share).plaintext == DATA


def test_a_share_of_another_segment_is_refused() -> None:
    others = seal(SCHEME, DATA, segment_id=OTHER_ID)
    name = list(others)[2]
    other = parse_footer(others[name], name=name, size_bytes=len(others[name]))
    moved = with_footer(replace(footer_of(2), wrapped_share=other.wrapped_share))
    with pytest.raises(ShardMismatch, match="the share of shard 2 does not open"):
        open_share(parse_footer(moved[NAMES[2]], name=NAMES[2], size_bytes=len(moved[NAMES[2]])))
    assert decode_segment(SHARDS | moved, open_share).plaintext == DATA


def test_a_label_of_another_segment_is_refused() -> None:
    others = seal(SCHEME, DATA, segment_id=OTHER_ID, label=msgspec.structs.replace(LABEL, key="other"))
    name = next(iter(others))
    label = parse_footer(others[name], name=name, size_bytes=len(others[name])).sealed_label
    moved = {}
    for index in range(6):
        moved |= with_footer(replace(footer_of(index), sealed_label=label))
    with pytest.raises(ShardMismatch, match="no label that opens"):
        decode_segment(moved, open_share)
    assert decode_segment(moved | {NAMES[5]: SHARDS[NAMES[5]]}, open_share).label == LABEL


def test_two_labels_that_open_and_differ_are_refused() -> None:
    """Nobody seals a second one; someone who has the keys might, to have the segment appear elsewhere."""
    second = seal(SCHEME, DATA, label=msgspec.structs.replace(LABEL, key="other"))
    assert second.keys() == SHARDS.keys()
    with pytest.raises(ShardMismatch, match="2 labels that differ, and all of them open"):
        decode_segment(SHARDS | {NAMES[3]: second[NAMES[3]]}, open_share)


def test_shards_of_two_segments_are_not_mixed() -> None:
    with pytest.raises(ShardMismatch, match="not shards of one segment"):
        decode_segment(SHARDS | seal(SCHEME, DATA, segment_id=OTHER_ID), open_share)


def test_forged_cells_are_replaced_from_others() -> None:
    damaged = {name: b"\0" + SHARDS[name][1:] for name in NAMES[:2]}
    assert decode_segment(SHARDS | damaged, open_share).plaintext == DATA
    with pytest.raises(NotEnoughShards, match=r"3 shards of the 4 needed.*the cell of stripe 0 does not open"):
        decode_segment(SHARDS | damaged | {NAMES[2]: b"\0" + SHARDS[NAMES[2]][1:]}, open_share)


def test_two_generations_of_a_shard_count_once() -> None:
    anew = with_footer(replace(footer_of(0), generation=1))
    shards = {name: SHARDS[name] for name in NAMES[:3]} | anew
    assert len(shards) == 4
    with pytest.raises(NotEnoughShards):
        decode_segment(shards, open_share)
    assert decode_segment(shards | {NAMES[5]: SHARDS[NAMES[5]]}, open_share).plaintext == DATA


def test_a_tenant_key_that_is_not_to_be_had_is_said() -> None:
    def none(footer: Footer) -> bytes:
        raise KeyUnavailable(f"no tenant {footer.fixed.tenant_key_id}")

    with pytest.raises(ShardMismatch, match="no tenant 00112233-4455-6677-8899-aabbccddeeff"):
        decode_segment(SHARDS, none)


def test_a_cell_is_bound_to_the_commitment_as_well_as_to_the_key() -> None:
    """The everyday read sees no footer: it makes the fixed part itself, from the key it has, and that is in each cell's associated data."""
    keys, sealed = keys_for(SCHEME, len(DATA)), SHARDS[NAMES[0]][:65_552]
    committed = keys.fixed_part(0)
    key = DerivedKeys(DATA_KEY, SEGMENT_ID).shard_key(0)
    assert opened(CellCipher(key, fixed_part=committed, stripe_count=2), sealed) == opened(keys.cipher(0), sealed)
    for position in (56, 87):
        other = committed[:position] + bytes([committed[position] ^ 1]) + committed[position + 1 :]
        with pytest.raises(CellForged):
            opened(CellCipher(key, fixed_part=other, stripe_count=2), sealed)
    with pytest.raises(CellForged):
        opened(keys_for(SCHEME, len(DATA), data_key=bytes(32)).cipher(0), sealed)
