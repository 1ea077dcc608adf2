"""The configuration: one TOML file, checked whole before anything starts.

Strings expand `${NAME}` and `${NAME:-default}` from the environment. Secrets may be `env:NAME` or `file:PATH`; a key file that others may read
is refused. Unknown keys are errors: a misspelt promise must not go unnoticed.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from proxy.errors import ConfigError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections."""


class ManifestConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["sqlite"] = "sqlite"
    path: str


class RootKeyConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["file"] = "file"
    path: str
    create: bool = False


class PricesConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """US dollars: a GB stored for a month, a thousand puts, a thousand gets, a GB of egress."""

    storage_gb_month: float = 0.0
    put_per_thousand: float = 0.0
    get_per_thousand: float = 0.0
    egress_gb: float = 0.0


class StoreConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["s3", "gcs", "azure", "directory", "memory"]
    provider: str
    region: str
    jurisdiction: str
    bucket: str = ""  # Azure: the container
    prefix: str = ""
    endpoint: str = ""
    access_key: str = ""
    secret_key: str = ""
    account: str = ""  # Azure
    account_key: str = ""  # Azure
    service_account: str = ""  # Google: path of a key file
    create_bucket: bool = False  # s3
    path: str = ""  # directory
    fsync: bool = True  # directory
    concurrency: int = 64
    prices: PricesConfig = PricesConfig()


class MayFailConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    stores: int = 0
    providers: int = 0
    regions: int = 0


class PolicyConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    scheme: str
    stores: tuple[str, ...] = ()  # none named: all
    jurisdictions: tuple[str, ...] = ()  # none named: any
    may_fail: MayFailConfig = MayFailConfig()
    never_together: tuple[Literal["provider", "jurisdiction"], ...] = ("provider", "jurisdiction")
    storage_classes: dict[str, str] = {}
    segment_mib: int = 16


class LimitsConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    memory_mib: int = 256
    memory_wait_seconds: float = 30.0
    put_timeout_seconds: float = 60.0
    get_timeout_seconds: float = 30.0
    straggler_grace_seconds: float = 2.0
    body_idle_seconds: float = 30.0
    collect_after_seconds: float = 3600.0
    collect_interval_seconds: float = 60.0
    intent_seconds: float = 120.0


class LogConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "text"] = "text"


class Config(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    listen: str = "127.0.0.1:9000"
    domains: tuple[str, ...] = ()  # virtual-hosted style: bucket.DOMAIN
    region: str = "us-east-1"
    data: str
    manifest: ManifestConfig
    root_key: RootKeyConfig
    stores: dict[str, StoreConfig]
    policies: dict[str, PolicyConfig]
    default_policy: str
    limits: LimitsConfig = LimitsConfig()
    log: LogConfig = LogConfig()


def load_config(path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """Read and check a configuration file. Every fault is a `ConfigError` that names the key and the remedy."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    try:
        config = msgspec.convert(_expand(document, "", environ), Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}") from error
    _check(config)
    return config


def _expand(value: object, key: str, environ: Mapping[str, str]) -> object:
    if isinstance(value, dict):
        return {name: _expand(item, f"{key}.{name}" if key else name, environ) for name, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, f"{key}[{index}]", environ) for index, item in enumerate(value)]
    if isinstance(value, str):
        return _resolve(_VARIABLE.sub(lambda match: _variable(match, key, environ), value), key, environ)
    return value


def _variable(match: re.Match[str], key: str, environ: Mapping[str, str]) -> str:
    name, default = match[1], match[2]
    value = environ.get(name) or default
    if value is None:
        raise ConfigError(f"{key}: the environment variable {name} is not set; set it, or write ${{{name}:-default}}")
    return value


def _resolve(text: str, key: str, environ: Mapping[str, str]) -> str:
    if text.startswith("env:"):
        if text[4:] not in environ:
            raise ConfigError(f"{key}: the environment variable {text[4:]} is not set")
        return environ[text[4:]]
    if text.startswith("file:"):
        return _secret_file(Path(text[5:]), key)
    return text


def _secret_file(path: Path, key: str) -> str:
    try:
        mode, text = path.stat().st_mode, path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{key}: cannot read {path}: {error}") from error
    if mode & 0o077:
        raise ConfigError(f"{key}: {path} can be read by others; run: chmod 600 {path}")
    return text.strip()


def _check(config: Config) -> None:
    if config.default_policy not in config.policies:
        raise ConfigError(f'default_policy: there is no policy "{config.default_policy}"; one of: {", ".join(sorted(config.policies))}')
    for name, store in config.stores.items():
        if not _NAME.fullmatch(name):
            raise ConfigError(f"stores.{name}: a store's name is lower-case letters, digits and hyphens")
        needed = {"directory": ["path"], "memory": [], "azure": ["bucket", "account"]}.get(store.kind, ["bucket"])
        for field in needed:
            if not getattr(store, field):
                raise ConfigError(f"stores.{name}.{field}: a store of kind {store.kind} needs it")
    for name, policy in config.policies.items():
        for store_name in policy.stores:
            if store_name not in config.stores:
                raise ConfigError(f'policies.{name}.stores: there is no store "{store_name}"')
        if not 1 <= policy.segment_mib <= 16:
            raise ConfigError(f"policies.{name}.segment_mib: 1 to 16")
    for field in ("memory_mib", "memory_wait_seconds", "put_timeout_seconds", "get_timeout_seconds", "body_idle_seconds", "intent_seconds"):
        if getattr(config.limits, field) <= 0:
            raise ConfigError(f"limits.{field}: must be more than 0")
