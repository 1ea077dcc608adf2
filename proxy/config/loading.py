"""Reading the configuration file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

from proxy.config.checks import check
from proxy.config.faults import convert
from proxy.config.sections import Config
from proxy.config.values import expand
from proxy.errors import ConfigError


def load_config(path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """Read and check a configuration file. Every fault is a `ConfigError` that names the key and the remedy."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}; name one with --config FILE") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    try:
        config = convert(expand(document, "", environ))
        check(config)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error.__cause__
    return config
