"""A change of the manifest that is under way, for whoever is called back when it has ended and needs no task to wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

Result = TypeVar("Result")


class Begun(NamedTuple, Generic[Result]):
    """Once `ended` is done, `result` returns what the change returned, or raises why it was not made or is not known to be."""

    ended: asyncio.Future[Any]
    result: Callable[[], Result]
