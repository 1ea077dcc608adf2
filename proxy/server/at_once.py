"""Answers at once: a plain read for which nobody need be waited for, a plain write that waits for its pack alone, or a plain deletion that
waits for its commit alone, by a sender who was let in before.

The problem. Most reads need nobody to be waited for: what is asked for is known, and its bytes are at hand. As tasks that might wait at
eight places they take a quarter longer. A small object that came with its head waits once: for the commit of its pack. So does a deletion,
for its own.

The idea. The same steps in the same order, each by the function that takes it for every request, as plain calls. Whatever is missing on the
way, or wrong, is left to the pipeline (see `dispatch`), which begins anew and says what is wrong; only who sent it is not proved twice. So
here is nothing that could be refused in other words, and nobody is let in whom the pipeline would not let in. Only a body that was read
cannot be read again: what is wrong with it is said here, in the same words.
"""

from __future__ import annotations

from proxy.manifest.records import ObjectKey
from proxy.s3.evidence import evidence_of_shape
from proxy.s3.naming import check_key
from proxy.s3.routing import split_target
from proxy.server.answers import Answers
from proxy.server.body import check_bodiless
from proxy.server.identity.auth import Authenticator
from proxy.server.looks import look_of
from proxy.server.serving import Serving
from proxy.server.shapes import Known
from proxy.server.visit import Visit
from proxy.server.wire.peers import Peers
from proxy.server.wire.response import Response
from proxy.server.wire.soon import Soon


class AtOnce:
    """Answers what takes no waiting."""

    def __init__(self, authenticator: Authenticator, peers: Peers, serving: Serving, answers: Answers) -> None:
        self._authenticator = authenticator
        self._peers = peers
        self._serving = serving
        self._answers = answers

    def answer(self, visit: Visit) -> Response | Soon | None:
        """Return the answer to a visit, or what it waits for, and note with it what the log tells of it; None if it is for the pipeline."""
        known = visit.request.known
        if known is None or not known.is_plain:
            return None
        try:
            return self._plainly(visit, known)
        except Exception as error:
            if visit.inlet.received_bytes:
                return self._answers.refusal(visit, self._answers.explain(visit, error))
            return None  # it goes wrong in the pipeline, too, which says what it is

    def _plainly(self, visit: Visit, known: Known) -> Response | Soon | None:
        request, entry, shape = visit.request, known.entry, known.shape
        target = split_target(known.hosted, visit.raw_path)
        look = look_of(known.operation, target, shape.query)
        if entry is None or target.bucket is None or target.key is None or (known.is_plain_read and look is None):
            return None
        evidence = evidence_of_shape(shape, visit.raw_path, request.headers, self._authenticator.place)
        sender = request.proved = self._authenticator.check_at_once(evidence, target.bucket, look)
        if sender is None or not entry.is_for(sender):
            return None
        check_key(target.key)
        if not known.is_plain_write:
            check_bodiless(sender.claim)
        visit.remote = self._peers.address(request, request.headers)
        visit.target, visit.operation = target, known.operation
        visit.proved(sender)
        visit.pays = entry.pays
        if known.is_plain_write:
            return self._serving.write_plainly(visit, known.operation, sender, entry.access, ObjectKey(target.key))
        if known.is_plain_delete:
            return self._serving.delete_plainly(visit, known.operation, entry.access, ObjectKey(target.key))
        return self._serving.plainly(visit, known.operation, sender.caller.found, entry.access)
