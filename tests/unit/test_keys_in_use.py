"""Keys of segments that are kept: the same ones, not too many, and those of large segments apart."""

from __future__ import annotations

from proxy.engine.reading.keys_in_use import KEPT, LARGE_KEPT, LARGE_SIZE, KeysInUse
from proxy.keyring import TenantCipher
from proxy.manifest.records import Layout, Segment, SegmentId
from tests.unit.codec.samples import opened

TENANT = "00112233-4455-6677-8899-aabbccddeeff"


class CountingCipher(TenantCipher):
    """Counts the data keys that are unwrapped."""

    __slots__ = ("unwrapped",)

    def __init__(self) -> None:
        super().__init__(TENANT, bytes(32))
        self.unwrapped = 0

    def unwrap(self, wrapped: bytes) -> bytes:
        self.unwrapped += 1
        return super().unwrap(wrapped)


def _layout(cipher: TenantCipher, number: int, *, size: int = 5000) -> Layout:
    segment = Segment(id=SegmentId(number.to_bytes(16, "big")), size=size, stores=("a", "b", "c"))
    return Layout(size=size, k=2, m=1, tenant_key_id=TENANT, wrapped_key=cipher.new_data_key()[1], segments=(segment,))


def test_a_segment_has_its_keys_derived_once() -> None:
    cipher, kept = CountingCipher(), KeysInUse()
    layout = _layout(cipher, 1)
    first = kept.of(layout, layout.segments[0], cipher)
    assert kept.of(layout, layout.segments[0], cipher) is first
    assert cipher.unwrapped == 1


def test_every_segment_has_keys_of_its_own() -> None:
    cipher, kept = CountingCipher(), KeysInUse()
    one, other = (_layout(cipher, number) for number in range(2))
    sealed = kept.of(one, one.segments[0], cipher).cipher(0).seal(0, b"data")
    assert opened(kept.of(one, one.segments[0], cipher).cipher(0), sealed) == b"data"
    assert kept.of(other, other.segments[0], cipher).cipher(0).seal(0, b"data") != sealed


def test_those_not_asked_for_longest_are_forgotten() -> None:
    cipher, kept = CountingCipher(), KeysInUse()
    layouts = [_layout(cipher, number) for number in range(KEPT + 1)]
    for layout in (*layouts[:KEPT], layouts[0], layouts[KEPT]):
        kept.of(layout, layout.segments[0], cipher)
    assert cipher.unwrapped == KEPT + 1
    kept.of(layouts[0], layouts[0].segments[0], cipher)
    assert cipher.unwrapped == KEPT + 1
    kept.of(layouts[1], layouts[1].segments[0], cipher)
    assert cipher.unwrapped == KEPT + 2


def test_keys_of_large_segments_are_kept_for_their_next_windows_and_drive_out_no_others() -> None:
    cipher, kept = CountingCipher(), KeysInUse()
    small = _layout(cipher, 0)
    kept.of(small, small.segments[0], cipher)
    large = [_layout(cipher, 1 + number, size=LARGE_SIZE + 1) for number in range(max(LARGE_KEPT, KEPT) + 1)]
    for layout in (*large, large[-1], small):
        kept.of(layout, layout.segments[0], cipher)
    assert cipher.unwrapped == 1 + len(large)
    kept.of(large[0], large[0].segments[0], cipher)
    assert cipher.unwrapped == 2 + len(large)
