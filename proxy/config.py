"""The configuration: one TOML file, checked whole before anything starts.

Strings expand `${NAME}` and `${NAME:-default}` from the environment. Secrets may be `env:NAME` or `file:PATH`; a key file that others may
read is refused. Unknown keys are errors, and so are keys that do not apply: a misspelt promise must not go unnoticed.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import msgspec.inspect

from proxy.errors import ConfigError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_FAULT = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<where>.*)`)?")  # how msgspec says what is wrong, and where
_FIELD = re.compile(r"Object (?P<fault>contains unknown|missing required) field `(?P<name>.*)`")

_PUBLIC_URL = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9.-]*)(:[0-9]{1,5})?")
_DOMAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_YEAR = 365 * 24 * 3600  # a deadline of infinity is none

Text = Annotated[str, msgspec.Meta(min_length=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=_YEAR)]
SecondsOrNone = Annotated[float, msgspec.Meta(ge=0, le=_YEAR)]
Dollars = Annotated[float, msgspec.Meta(ge=0)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections."""


class ManifestConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["sqlite"] = "sqlite"
    path: Text


class RootKeyConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["file"] = "file"
    path: Text
    create: bool = False


class PricesConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """US dollars: a GB stored for a month, a thousand puts, a thousand gets, a GB of egress."""

    storage_gb_month: Dollars = 0.0
    put_per_thousand: Dollars = 0.0
    get_per_thousand: Dollars = 0.0
    egress_gb: Dollars = 0.0


class StoreConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["s3", "gcs", "azure", "directory", "memory"]
    provider: Text
    region: Text
    jurisdiction: Text
    bucket: str = ""  # Azure: the container
    prefix: str = ""
    endpoint: str = ""
    access_key: str = ""
    secret_key: str = ""
    account: str = ""  # Azure
    account_key: str = ""  # Azure
    service_account: str = ""  # Google: path of a key file
    anonymous: bool = False  # Google: an emulator, which asks for no credentials
    create_bucket: bool = False  # s3
    path: str = ""  # directory
    fsync: bool = True  # directory
    concurrency: Positive = 64
    prices: PricesConfig = PricesConfig()

    def __repr__(self) -> str:
        shown = {name: "..." if name in _SECRETS and value else value for name, value in msgspec.structs.asdict(self).items()}
        return f"StoreConfig({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


_SECRETS = frozenset({"secret_key", "account_key"})
_ANY_KIND = frozenset({"kind", "provider", "region", "jurisdiction", "concurrency", "prices"})
_BUCKET_KEYS = _ANY_KIND | {"bucket", "prefix", "endpoint"}
_KEYS_OF_KIND: dict[str, frozenset[str]] = {
    "s3": _BUCKET_KEYS | {"access_key", "secret_key", "create_bucket"},
    "gcs": _BUCKET_KEYS | {"service_account", "anonymous"},
    "azure": _BUCKET_KEYS | {"account", "account_key"},
    "directory": _ANY_KIND | {"path", "fsync"},
    "memory": _ANY_KIND,
}
_NEEDED_KEYS = {"s3": ("bucket",), "gcs": ("bucket",), "azure": ("bucket", "account"), "directory": ("path",), "memory": ()}


class MayFailConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    stores: Count = 0
    providers: Count = 0
    regions: Count = 0


class PolicyConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    scheme: str
    stores: tuple[str, ...] = ()  # none named: all
    jurisdictions: tuple[str, ...] = ()  # none named: any
    may_fail: MayFailConfig = MayFailConfig()
    never_together: tuple[Literal["provider", "jurisdiction"], ...] = ("provider", "jurisdiction")
    storage_classes: dict[str, str] = {}
    segment_mib: Annotated[int, msgspec.Meta(ge=1, le=16)] = 16


class LimitsConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    memory_mib: Positive = 192
    memory_wait_seconds: Seconds = 30.0
    connections: Positive = 2048
    manifest_timeout_seconds: Seconds = 10.0
    store_open_seconds: Seconds = 10.0
    put_timeout_seconds: Seconds = 60.0
    get_timeout_seconds: Seconds = 30.0
    straggler_grace_seconds: SecondsOrNone = 2.0
    body_idle_seconds: Seconds = 30.0
    white_space_seconds: Seconds = 10.0
    body_min_bytes_per_second: Count = 1024
    reader_idle_seconds: Seconds = 3600.0
    collect_after_seconds: SecondsOrNone = 3600.0
    collect_interval_seconds: Seconds = 60.0
    intent_seconds: Seconds = 120.0
    background_requests_per_second: Positive = 1000


class TlsConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Paths of PEM files: the certificate with its chain, and its private key."""

    certificate: Text
    key: Text


class LogConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "text"] = "text"


class Config(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    listen: str = "127.0.0.1:9000"
    domains: tuple[str, ...] = ()  # names of this server; virtual-hosted style: bucket.DOMAIN
    public_url: str = ""  # as clients know it, behind a proxy
    region: Text = "us-east-1"
    data: Text
    manifest: ManifestConfig
    root_key: RootKeyConfig
    stores: dict[str, StoreConfig]
    policies: dict[str, PolicyConfig]
    default_policy: str
    locations: dict[str, str] = {}  # LocationConstraint → policy
    tls: TlsConfig | None = None  # none: plain HTTP
    limits: LimitsConfig = LimitsConfig()
    log: LogConfig = LogConfig()


def load_config(path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """Read and check a configuration file. Every fault is a `ConfigError` that names the key and the remedy."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}; name one with --config FILE") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    try:
        config = _converted(_expand(document, "", environ))
        _check(config)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error.__cause__
    return config


def listen_address(text: str) -> tuple[str, int]:
    """Return (host, port) of "HOST:PORT"; an IPv6 host stands in brackets. Raises `ConfigError`."""
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535 or (":" in host and not host.startswith("[")):
        raise ConfigError(f'listen: "{text}" is not HOST:PORT; write it as in "127.0.0.1:9000" or "[::1]:9000"')
    return host.strip("[]"), int(port)


def credentials_path(config: Config) -> Path:
    """Return where the first tenant's credentials are, in full: it is pasted elsewhere."""
    return Path(config.data).absolute() / "credentials"


def _expand(value: object, key: str, environ: Mapping[str, str]) -> object:
    if isinstance(value, dict):
        return {name: _expand(item, f"{key}.{name}" if key else name, environ) for name, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, f"{key}[{index}]", environ) for index, item in enumerate(value)]
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


def _converted(document: object) -> Config:
    try:
        return msgspec.convert(document, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(_culprit(document) or _in_words(error, "")) from error


def _culprit(document: object) -> str | None:
    """Find the faulty store or policy: msgspec does not say which entry of a table it means."""
    tables = document if isinstance(document, dict) else {}
    for table, kind in (("stores", StoreConfig), ("policies", PolicyConfig)):
        entries = tables.get(table)
        for name, entry in entries.items() if isinstance(entries, dict) else ():
            try:
                msgspec.convert(entry, kind)
            except msgspec.ValidationError as error:
                return _in_words(error, f"{table}.{name}")
    return None


def _in_words(error: msgspec.ValidationError, place: str) -> str:
    match = _FAULT.fullmatch(str(error))
    what, where = (match["what"], match["where"]) if match else (str(error), None)
    key = ".".join(part for part in (place, where) if part)
    if field := _FIELD.fullmatch(what):
        name = f"{key}.{field['name']}" if key else field["name"]
        if field["fault"] == "missing required":
            return f"{name}: missing; add it"
        return f"{name}: there is no such key; {_suggestion(field['name'])}"
    remedy = f"one of: {', '.join(choices)}" if (choices := _choices(key)) else "correct the value"
    return f"{key or 'the configuration'}: {what[:1].lower()}{what[1:]}; {remedy}"


def _choices(key: str) -> tuple[str, ...]:
    """Return the words that may stand for this key; none if it is not one of a few."""
    kind: msgspec.inspect.Type = msgspec.inspect.type_info(Config)
    for name in key.replace("[", ".").rstrip("]").split("."):
        match kind:
            case msgspec.inspect.StructType():
                kind = next((field.type for field in kind.fields if field.name == name), kind)
            case msgspec.inspect.DictType():
                kind = kind.value_type
            case msgspec.inspect.VarTupleType():
                kind = kind.item_type
    return tuple(map(str, kind.values)) if isinstance(kind, msgspec.inspect.LiteralType) else ()


def _suggestion(name: str) -> str:
    known = {field.name for section in Section.__subclasses__() for field in msgspec.structs.fields(section)}
    close = get_close_matches(name, known, n=1)
    return f'do you mean "{close[0]}"?' if close else "remove it"


def _check(config: Config) -> None:
    listen_address(config.listen)
    for domain in config.domains:
        if not _DOMAIN.fullmatch(domain):
            raise ConfigError(f'domains: "{domain}" is not a host name; write it as in "s3.example.org"')
    if config.public_url and not _PUBLIC_URL.fullmatch(config.public_url):
        raise ConfigError(f'public_url: "{config.public_url}" is not SCHEME://HOST[:PORT]; write it as in "https://s3.example.org"')
    if config.tls is not None:
        private_text(Path(config.tls.key), "tls.key")
    if not config.stores:
        raise ConfigError("stores: there are none; add one as [stores.NAME]")
    if config.default_policy not in config.policies:
        raise ConfigError(f'default_policy: there is no policy "{config.default_policy}"; one of: {", ".join(sorted(config.policies))}')
    _check_locations(config)
    for name, store in config.stores.items():
        _check_store(f"stores.{name}", name, store)
    _check_places(config.stores)
    _check_limits(config.limits)
    for name, policy in config.policies.items():
        for store_name in policy.stores:
            if store_name not in config.stores:
                known = ", ".join(sorted(config.stores))
                raise ConfigError(f'policies.{name}.stores: there is no store "{store_name}"; one of: {known}')


def _check_locations(config: Config) -> None:
    for name, policy in config.locations.items():
        if policy not in config.policies:
            raise ConfigError(f'locations.{name}: there is no policy "{policy}"; one of: {", ".join(sorted(config.policies))}')
        if name in config.policies:
            raise ConfigError(f"locations.{name}: a policy has this name, and a LocationConstraint means it already; remove the line")


def _check_store(key: str, name: str, store: StoreConfig) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{key}: a store's name is lower-case letters, digits and hyphens; rename it")
    values = msgspec.structs.asdict(store)
    for field in _NEEDED_KEYS[store.kind]:
        if not values[field]:
            raise ConfigError(f"{key}.{field}: a store of kind {store.kind} needs it; add it")
    for info in msgspec.structs.fields(StoreConfig):
        if info.name not in _KEYS_OF_KIND[store.kind] and values[info.name] != info.default:
            raise ConfigError(f"{key}.{info.name}: means nothing for a store of kind {store.kind}; remove it")
    if store.endpoint and not store.endpoint.startswith(("https://", "http://")):
        raise ConfigError(f'{key}.endpoint: "{store.endpoint}" is not a URL; write it with https://')
    if bool(store.access_key) != bool(store.secret_key):
        missing = "secret_key" if store.access_key else "access_key"
        raise ConfigError(f"{key}.{missing}: missing; give both keys, or neither to use boto3's credential chain")
    if store.kind == "gcs":
        _check_google_credentials(key, store)
    if store.service_account:
        private_text(Path(store.service_account), f"{key}.service_account")


def _check_google_credentials(key: str, store: StoreConfig) -> None:
    if store.anonymous and (store.service_account or not store.endpoint):
        raise ConfigError(f"{key}.anonymous: for an emulator, so with an endpoint and without a service_account; correct one of them")
    if store.endpoint and not (store.service_account or store.anonymous):
        raise ConfigError(
            f"{key}.service_account: missing beside an endpoint; name a key file, or write anonymous = true for an emulator that asks for "
            "no credentials"
        )


def _check_limits(limits: LimitsConfig) -> None:
    """A put that is under way when its segment is collected would arrive later, and nobody would look for its shard again."""
    if limits.collect_after_seconds < limits.put_timeout_seconds:
        raise ConfigError(
            f"limits.collect_after_seconds: {limits.collect_after_seconds:g} is less than put_timeout_seconds "
            f"({limits.put_timeout_seconds:g}), so a late put could leave a shard for good; raise the one or lower the other"
        )


def _check_places(stores: Mapping[str, StoreConfig]) -> None:
    """Two stores at one place would be lost together, whatever a policy promises of them."""
    names: dict[tuple[str, ...], str] = {}
    for name, store in stores.items():
        if store.kind == "memory":
            continue
        place = _place(store)
        if place in names:
            what = "path" if store.kind == "directory" else "bucket"
            raise ConfigError(f"stores.{name}.{what}: store {names[place]} uses it, too; give each store its own")
        names[place] = name


def _place(store: StoreConfig) -> tuple[str, ...]:
    if store.kind == "directory":
        return ("directory", os.path.abspath(store.path))
    return (store.kind, store.endpoint.rstrip("/").lower(), store.account, store.bucket, store.prefix.strip("/"))
