"""What the strings of a configuration file stand for: variables, secrets, addresses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from proxy.errors import ConfigError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


def expand(value: object, key: str, environ: Mapping[str, str]) -> object:
    """Return a value with every string in it expanded. Raises `ConfigError`."""
    if isinstance(value, dict):
        return {name: expand(item, f"{key}.{name}" if key else name, environ) for name, item in value.items()}
    if isinstance(value, list):
        return [expand(item, f"{key}[{index}]", environ) for index, item in enumerate(value)]
    if isinstance(value, str):
        return _resolve(_substitute(value, key, environ), key, environ)
    return value


def _substitute(text: str, key: str, environ: Mapping[str, str]) -> str:
    if "${" in _VARIABLE.sub("", text):
        raise ConfigError(f'{key}: "{text}" has a ${{ without the name of a variable; write ${{NAME}} or ${{NAME:-default}}')
    return _VARIABLE.sub(lambda match: _variable(match, key, environ), text)


def _variable(match: re.Match[str], key: str, environ: Mapping[str, str]) -> str:
    name, default = match[1], match[2]
    value = environ.get(name) or default
    if value is None:
        raise ConfigError(f"{key}: the environment variable {name} is not set; set it, or write ${{{name}:-default}}")
    return value


def _resolve(text: str, key: str, environ: Mapping[str, str]) -> str:
    if text.startswith("env:"):
        # An empty secret would quietly fall back on other credentials.
        if not environ.get(text[4:]):
            raise ConfigError(f"{key}: the environment variable {text[4:]} is not set; set it to the secret")
        return environ[text[4:]]
    if text.startswith("file:"):
        return private_text(Path(text[5:]), key)
    return text


def private_text(path: Path, key: str) -> str:
    """Return what a secret's file holds. Raises `ConfigError`, for this key, if it cannot be read, or others may read it, too."""
    try:
        mode, text = path.stat().st_mode, path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"{key}: cannot read {path}: {error.strerror}; put the secret there, or correct the path") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{key}: {path} is not text; put the secret there as text") from error
    if mode & 0o077:
        raise ConfigError(f"{key}: {path} can be read by others; run: chmod 600 {path}")
    return text.strip()


def listen_address(text: str) -> tuple[str, int]:
    """Return (host, port) of "HOST:PORT"; an IPv6 host stands in brackets. Raises `ConfigError`."""
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535 or (":" in host and not host.startswith("[")):
        raise ConfigError(f'listen: "{text}" is not HOST:PORT; write it as in "127.0.0.1:9000" or "[::1]:9000"')
    return host.strip("[]"), int(port)
