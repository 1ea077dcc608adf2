"""Room on the disk beside the manifest. What is only scratch must not fill it: the manifest could not be written any more."""

from __future__ import annotations

import shutil
from pathlib import Path

from proxy.errors import NoRoom

KEPT_BYTES = 256 * 1024 * 1024  # for the manifest: minutes of a busy server


def require_room(folder: Path) -> None:
    """Raise `NoRoom` if there is not more than what is kept."""
    free = shutil.disk_usage(folder).free
    if free < KEPT_BYTES:
        raise NoRoom(
            f"the disk of {folder} has only {free / 1024**2:,.0f} MiB left, and {KEPT_BYTES / 1024**2:,.0f} are kept for the manifest"
        )
