"""The end of the journal: the segment that the recovered manifest goes on from, and that all later ones are chained to.

The problem. Whoever wrote it may have died in the middle of it, with just as many of its shards stored as it takes to read it. So it is
read, and counts. But then all that is written and acknowledged from now on rests on a segment under which no store may fail: once it cannot
be read any more, there is a gap in the journal, and nothing behind the gap comes back.

The idea. Unless all its shards were listed it is stored once more, under the journal's policy. The same bytes have the same digest, so it
does not matter which of the two a later recovery finds.
"""

from __future__ import annotations

from proxy.engine.journal.store import put_segment
from proxy.engine.journal.writing import CopyWriter
from proxy.engine.recover.history import History
from proxy.engine.recover.notes import Notes
from proxy.manifest.journal import StoredSegment, decode_segment
from proxy.manifest.records import Layout
from proxy.manifest.recovery import Link
from proxy.manifest.sqlite.notebook import Notebook


async def stored_end(history: History, notes: Notes, writer: CopyWriter) -> StoredSegment:
    """Return the last segment of a history, as it is stored. Raises `NotEnoughShards` if it has to be stored again, and cannot be."""
    if not history.chain.links:
        return _before_the_first(history)
    last = history.chain.links[-1]
    if not any(segment.missing for segment in last.layout.segments):
        return _stored(last)
    return await put_segment(writer, decode_segment(await notes.run(Notebook.plaintext, last.number, last.segment_id)))


def _before_the_first(history: History) -> StoredSegment:
    number, digest = history.start
    return StoredSegment(
        number=number,
        epoch=history.epoch,
        digest=digest,
        sequence=history.checkpoint.sequence if history.checkpoint else 0,
        size_bytes=0,
        stored_ms=history.made_ms,
        layout=Layout(size=0, k=1, m=0, tenant_key_id="", wrapped_key=b"", segments=()),
    )


def _stored(link: Link) -> StoredSegment:
    return StoredSegment(
        number=link.number,
        epoch=link.epoch,
        digest=link.digest,
        sequence=link.sequence,
        size_bytes=link.size_bytes,
        stored_ms=link.made_ms,
        layout=link.layout,
    )
