"""Storing an extent anew, under another scheme: read, coded and sealed as a new extent, and exchanged under what uses it.

What a client sees of it stays exactly as it is: only the version's or part's reference changes, in one step of the manifest, which does
nothing if the version or part has gone meanwhile. The new segments carry the labels of the old ones, so whoever recovers from the stores
alone finds the same version, whichever of the two it reads. They bear a mark beside: see `stored_anew`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

from msgspec.structs import replace

from proxy.clock import WriteOrder
from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.codec.label import Label, decode_label
from proxy.engine.ciphers import cipher_of
from proxy.engine.memory.budget import Budget
from proxy.engine.moving.means import Means
from proxy.engine.moving.sources import SegmentSources
from proxy.engine.placing.placement import Policy
from proxy.engine.reading.read import Pieces, Reader, ReadKeys
from proxy.engine.reading.windows import source_memory
from proxy.engine.throttle import Throttle
from proxy.engine.writing.body import Digests
from proxy.engine.writing.destination import Destination
from proxy.engine.writing.filling import Filler, segment_memory
from proxy.engine.writing.write import Writer
from proxy.keyring import TenantCipher
from proxy.manifest.campaigns import Exchanged, ExtentUser
from proxy.manifest.records import Bucket, Extent, Layout, Record, Settlement

LARGE_SHARE = 7 / 8  # of a budget: no large write gets more


class Rewriter:
    """Stores extents anew, within the background's memory and throttle."""

    def __init__(self, means: Means, reader: Reader) -> None:
        self._means = means
        self._reader = reader

    async def rewrite(self, bucket: Bucket, user: ExtentUser, extent: Extent, policy: Policy, scheme: Scheme) -> Layout:
        """Store an extent under a policy and scheme, and let the user have it instead; return how it is stored.

        `ExtentMissing` if the version or part does not use it any more: then nothing has changed, and what was stored is collected.
        """
        cipher = await cipher_of(self._means.manifest, self._means.keyring, extent.layout)
        size = min(extent.layout.size, policy.segment_size)
        needed = segment_memory(SegmentGeometry(scheme, size)) + source_memory(size)
        async with self._means.memory.held(needed) as granted:
            destination = _ExtentDestination(
                policy=policy,
                scheme=scheme,
                cipher=cipher,
                manifest=self._means.manifest,
                clock=self._means.clock,
                order=WriteOrder(self._means.clock),  # of a new record: here there is none
                bucket=bucket,
                customer_salt=extent.layout.customer_salt,
                user=user,
                extent=extent,
                last_label=replace(await self._last_label(extent, cipher), stored_anew=await self._means.mark()),
            )
            keys = ReadKeys(cipher, bucket.tenant_id, as_stored=True)
            pieces = self._reader.open_extent(extent, keys, run_size=policy.segment_size)
            body = _ExtentBody(pieces, extent.layout, scheme, self._means.throttle)
            exchanged = await self._writer(granted).write(destination, body)
        return exchanged.layout

    def _writer(self, memory_bytes: int) -> Writer:
        """Return a writer that shares a part of the background's memory among the segments of one extent, and takes none of clients'."""
        means, budget = self._means, Budget(int(memory_bytes / LARGE_SHARE) + 1, wait_seconds=self._means.wait_seconds)
        filler = Filler(ledger=means.ledger, budget=budget, threads=means.coding)
        return Writer(filler=filler, delivery=means.delivery(budget))

    async def _last_label(self, extent: Extent, cipher: TenantCipher) -> Label:
        """Read the label that carries the record of whoever stored the extent first."""
        sources = SegmentSources(
            extent,
            extent.layout.segments[-1],
            cipher,
            fleet=self._means.fleet,
            threads=self._means.threads,
            throttle=self._means.throttle,
            reporter=self._means.reporter,
        )
        last = sources.geometry.stripe_count - 1
        await sources.columns(last, last, suspect=())
        footer = next(iter(sources.footers.values()))
        return decode_label(sources.keys.label_cipher().open(footer.sealed_label))


class _Rewritten(Record, frozen=True, kw_only=True, omit_defaults=True):
    """There is nothing new to record of a body that is stored already."""


class _ExtentDestination(Destination[_Rewritten, Exchanged], frozen=True, kw_only=True):
    """An extent in place of another, under one version or part."""

    user: ExtentUser
    extent: Extent
    last_label: Label

    def label(self, segment: int, offset: int, record: bytes) -> Label:
        """Return the old label, with the place of a segment that may be cut elsewhere now."""
        return replace(self.last_label, segment=segment, offset=offset, record=self.last_label.record if record else b"")

    def record(self, digests: Digests, size_bytes: int) -> _Rewritten:  # noqa: ARG002 - the base class's
        return _Rewritten()

    async def commit(
        self,
        recorded: _Rewritten,  # noqa: ARG002 - the base class's
        layouts: tuple[Layout, ...],
        settlements: Sequence[Settlement],
    ) -> Exchanged:
        (layout,) = layouts
        now_ms = self.clock.now_ms()
        new = await self.manifest.exchange_extent(self.user, self.extent.id, layout, settlements=settlements, now_ms=now_ms)
        return Exchanged(extents=(new,), layout=layout)


class _ExtentBody:
    """A stored extent as the body of a write. Every cell is authenticated as it is read, and what a client claimed was checked before."""

    def __init__(self, pieces: Pieces, layout: Layout, scheme: Scheme, throttle: Throttle) -> None:
        self.size_bytes = layout.size
        self._pieces = pieces
        self._throttle = throttle
        self._moved = 1 + scheme.n / scheme.k  # bytes read and written for each

    def memory_to_fill(self, size_bytes: int) -> int:
        return source_memory(size_bytes)

    async def chunks(self) -> AsyncIterator[bytes | memoryview]:
        async with aclosing(self._pieces) as pieces:
            async for piece in pieces:
                await self._throttle.take(int(len(piece) * self._moved))
                yield piece

    def digest(self, data: bytes | memoryview) -> None:
        """Nothing is to be compared."""

    def finish(self) -> Digests:
        return Digests(md5=b"")
