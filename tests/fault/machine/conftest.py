"""What the tests of the machine share."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture
def quiet() -> Iterator[None]:
    """What goes wrong on purpose is not logged: it would be thousands of lines."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def patient() -> None:
    """Time is simulated here: stores are late only by the machine's own doing."""
