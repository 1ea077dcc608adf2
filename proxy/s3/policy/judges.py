"""Judges: policies that were read before. A document is parsed when it is first asked, not for every request.

The text stands for the document, so a changed policy counts at once. What is kept is bounded by what it takes in memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from proxy.s3.policy.document import Document, read_bucket_policy, read_identity_policy, read_trust_policy
from proxy.s3.policy.evaluate import Judge

MAX_WEIGHT = 16 * 1024 * 1024
MAX_KEPT_WEIGHT = 2 * 1024 * 1024  # of one document: 20 KiB can be written so that they take that, and 30 ms to read


class Judges:
    """Reads policies, and keeps those used last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], Judge] = OrderedDict()
        self._weight = 0

    def of_bucket(self, text: str, bucket: str) -> Judge:
        """Return the judge of a bucket's policy. Raises MalformedPolicy."""
        return self._find(f"bucket {bucket}", text, lambda: read_bucket_policy(text.encode(), bucket))

    def of_identity(self, text: str) -> Judge:
        """Return the judge of a policy of a key, a role or a session. Raises MalformedPolicy."""
        return self._find("identity", text, lambda: read_identity_policy(text.encode()))

    def of_trust(self, text: str) -> Judge:
        """Return the judge of a role's trust policy. Raises MalformedPolicy."""
        return self._find("trust", text, lambda: read_trust_policy(text.encode()))

    def _find(self, kind: str, text: str, read: Callable[[], Document]) -> Judge:
        key = kind, text
        judge = self._kept.get(key)
        if judge is not None:
            self._kept.move_to_end(key)
            return judge
        judge = Judge(read())
        if judge.document.weight <= MAX_KEPT_WEIGHT:
            self._keep(key, judge)
        return judge

    def _keep(self, key: tuple[str, str], judge: Judge) -> None:
        self._kept[key] = judge
        self._weight += judge.document.weight
        while self._weight > MAX_WEIGHT:
            _, dropped = self._kept.popitem(last=False)
            self._weight -= dropped.document.weight
