"""The configuration: one TOML file, checked whole before anything starts.

Strings expand `${NAME}` and `${NAME:-default}` from the environment. Secrets may be `env:NAME` or `file:PATH`; a key file that others may
read is refused. Unknown keys are errors, and so are keys that do not apply: a misspelt promise must not go unnoticed.
"""

from __future__ import annotations

from proxy.config.loading import load_config
from proxy.config.sections import (
    CacheConfig,
    CoalitionConfig,
    Config,
    JournalConfig,
    LimitsConfig,
    LogConfig,
    NotificationsConfig,
    PacksConfig,
    PolicyConfig,
    RepairConfig,
    Section,
    StoreConfig,
    TargetConfig,
    TlsConfig,
    credentials_path,
)
from proxy.config.values import listen_address, private_text

__all__ = [
    "CacheConfig",
    "CoalitionConfig",
    "Config",
    "JournalConfig",
    "LimitsConfig",
    "LogConfig",
    "NotificationsConfig",
    "PacksConfig",
    "PolicyConfig",
    "RepairConfig",
    "Section",
    "StoreConfig",
    "TargetConfig",
    "TlsConfig",
    "credentials_path",
    "listen_address",
    "load_config",
    "private_text",
]
