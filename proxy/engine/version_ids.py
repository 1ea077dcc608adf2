"""Ids for versions and delete markers."""

from __future__ import annotations

import secrets

from proxy.manifest.records import VersionId

ID_BYTES = 24  # 32 characters, without padding
AT_ONCE = 64


class VersionIds:
    """Random ids, no two alike. Many are drawn at a time: a draw takes 4 us, and lets go of the interpreter, which others take then.

    A process that is forked would give the same ones as its parent. Ours are all started anew.
    """

    def __init__(self) -> None:
        self._drawn: list[str] = []

    def next(self) -> VersionId:
        """Return an id that nobody can guess."""
        if not self._drawn:
            text = secrets.token_urlsafe(ID_BYTES * AT_ONCE)
            length = len(text) // AT_ONCE
            self._drawn = [text[start : start + length] for start in range(0, len(text), length)]
        return VersionId(self._drawn.pop())
