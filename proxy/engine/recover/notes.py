"""The notebook, from the event loop: one thread does its work, one call after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from proxy.manifest.sqlite.notebook import Notebook

P = ParamSpec("P")
Result = TypeVar("Result")
Tell = Callable[[str, int, int | None], None]  # hears how far a phase is: its name, how much is done, of how much if that is known


class Notes:
    """Runs calls of a notebook in its thread."""

    def __init__(self, notebook: Notebook, thread: ThreadPoolExecutor) -> None:
        self._notebook = notebook
        self._thread = thread

    async def run(self, call: Callable[Concatenate[Notebook, P], Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Return what one of the notebook's methods returns, as in `run(Notebook.load, "position")`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: call(self._notebook, *args, **kwargs))


@asynccontextmanager
async def open_notes(path: Path) -> AsyncIterator[Notes]:
    """Open the notebook at `path`, made if it is not there."""
    with ThreadPoolExecutor(1, thread_name_prefix="notebook") as thread:
        loop = asyncio.get_running_loop()
        notebook = await loop.run_in_executor(thread, Notebook, path)
        try:
            yield Notes(notebook, thread)
        finally:
            await loop.run_in_executor(thread, notebook.close)
