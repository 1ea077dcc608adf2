"""The segments of one body on its way: begun, then placed, and at last a layout in the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proxy.codec.customer import Keystream
from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.codec.segment import SegmentKeys, SegmentSealer
from proxy.engine.memory.grant import Grant
from proxy.engine.placing.placement import Policy
from proxy.engine.writing.quorum import Placed
from proxy.keyring import TenantCipher
from proxy.manifest.records import Layout, Segment, SegmentId


@dataclass(slots=True)
class BegunSegment:
    """A segment that bytes are read into, or that is on its way to the stores; `placed` once they have it."""

    id: SegmentId
    size: int
    held: Grant
    footer_size: int = 0
    placed: Placed | None = None


class BodySegments:
    """One body's data key and its segments, in order; and its keystream, if what is stored is enciphered under a customer's key."""

    def __init__(
        self, policy: Policy, scheme: Scheme, cipher: TenantCipher, *, keystream: Keystream | None = None, customer_salt: bytes = b""
    ) -> None:
        self.policy = policy
        self.scheme = scheme
        self.cipher = cipher
        self.data_key, self._wrapped_key = cipher.new_data_key()
        self._keystream = keystream
        self._customer_salt = customer_salt
        self._segments: list[BegunSegment] = []

    @property
    def placed(self) -> list[Placed]:
        return [segment.placed for segment in self._segments if segment.placed is not None]

    def begin(self, segment_id: SegmentId, geometry: SegmentGeometry, held: Grant) -> SegmentKeys:
        """Add the next segment, and return its keys."""
        self._segments.append(BegunSegment(segment_id, geometry.size, held))
        return SegmentKeys(geometry, segment_id=segment_id, data_key=self.data_key, tenant_key_id=self.cipher.key_id)

    def seal(self, sealer: SegmentSealer, plaintext: Sequence[memoryview]) -> None:
        """Code and seal the body's next bytes, perhaps in a worker thread: one call at a time, in order."""
        sealer.add(plaintext if self._keystream is None else [self._keystream.apply(piece) for piece in plaintext])

    def __getitem__(self, number: int) -> BegunSegment:
        return self._segments[number]

    def give_up(self) -> list[SegmentId]:
        """Return the segments that are not placed, and give back their memory. The others' memory belongs to their late puts."""
        unplaced = [segment for segment in self._segments if segment.placed is None]
        for segment in unplaced:
            segment.held.release()
        return [segment.id for segment in unplaced]

    def layouts(self, size: int) -> tuple[Layout, ...]:
        """Return what the manifest is to remember of a body of this size: nothing of an empty one."""
        if not self._segments:
            return ()
        return (
            Layout(
                size=size,
                policy=self.policy.name,
                k=self.scheme.k,
                m=self.scheme.m,
                tenant_key_id=self.cipher.key_id,
                wrapped_key=self._wrapped_key,
                customer_salt=self._customer_salt,
                segments=tuple(_segment_record(segment) for segment in self._segments),
            ),
        )


def _segment_record(segment: BegunSegment) -> Segment:
    if segment.placed is None:
        raise ValueError(f"segment {segment.id.hex()} is not placed")
    return segment.placed.record(segment.size, footer_size=segment.footer_size)
