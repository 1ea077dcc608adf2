"""Policy documents that an operator gives as files: each fault is told with the name of its file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from proxy.errors import ConfigError


def read_policy_file(path: Path, check: Callable[[bytes], object]) -> str:
    """Return the text of a document in which `check` finds no fault. Warns of actions that do not exist."""
    from proxy.s3.errors import S3Error
    from proxy.s3.policy.advice import idle_actions

    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not text; put the policy there as JSON") from error
    try:
        check(text.encode())
    except S3Error as error:
        raise ConfigError(f"{path}: {error}") from error
    for action in idle_actions(text):
        print(f'warning: {path}: S3 has no action "{action}"; it is stored, and does nothing', file=sys.stderr)
    return text
