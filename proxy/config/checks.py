"""What must hold between the keys of a configuration, beyond the type of each."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from proxy.config.coalitions import check_coalitions
from proxy.config.sections import Config, LimitsConfig, OidcConfig, StoreConfig, TargetConfig
from proxy.config.values import listen_address, private_text
from proxy.errors import ConfigError

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_PUBLIC_URL = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9.-]*)(:[0-9]{1,5})?")
_DOMAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")

_ANY_KIND = frozenset({"kind", "provider", "region", "jurisdiction", "concurrency", "prices", "minimum_days"})
_BUCKET_KEYS = _ANY_KIND | {"bucket", "prefix", "endpoint"}
KEYS_OF_KIND: dict[str, frozenset[str]] = {
    "s3": _BUCKET_KEYS | {"access_key", "secret_key", "create_bucket"},
    "gcs": _BUCKET_KEYS | {"service_account", "anonymous"},
    "azure": _BUCKET_KEYS | {"account", "account_key"},
    "directory": _ANY_KIND | {"path", "fsync"},
    "memory": _ANY_KIND,
}
# Of each kind of target: the keys that it needs, and those that it may have.
KEYS_OF_TARGET: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "webhook": (("url",), ("authorization",)),
    "nats": (("url", "subject"), ("token", "credentials")),
    "file": (("path",), ()),
}
_SCHEMES = {"webhook": ("https://", "http://"), "nats": ("nats://", "tls://", "ws://", "wss://")}
NEEDED_KEYS = {"s3": ("bucket",), "gcs": ("bucket",), "azure": ("bucket", "account"), "directory": ("path",), "memory": ()}


def check(config: Config) -> None:
    """Raise `ConfigError`, with the key and the remedy, for the first thing that does not hold."""
    listen_address(config.listen)
    if config.public_url and not _PUBLIC_URL.fullmatch(config.public_url):
        raise ConfigError(f'public_url: "{config.public_url}" is not SCHEME://HOST[:PORT]; write it as in "https://s3.example.org"')
    _check_domains(config)
    _check_networks(config.trusted_proxies)
    for name, provider in config.oidc.items():
        _check_provider(f"oidc.{name}", provider)
    if config.tls is not None:
        private_text(Path(config.tls.key), "tls.key")
    if not config.stores:
        raise ConfigError("stores: there are none; add one as [stores.NAME]")
    if config.default_policy not in config.policies:
        raise ConfigError(f'default_policy: there is no policy "{config.default_policy}"; one of: {", ".join(sorted(config.policies))}')
    if config.journal.policy and config.journal.policy not in config.policies:
        raise ConfigError(f'journal.policy: there is no policy "{config.journal.policy}"; one of: {", ".join(sorted(config.policies))}')
    _check_locations(config)
    for name, store in config.stores.items():
        _check_store(f"stores.{name}", name, store)
    _check_places(config.stores)
    _check_limits(config.limits)
    if config.cache.directory and config.cache.use == "never":
        raise ConfigError('cache.directory: means nothing with use = "never"; remove one of them')
    check_coalitions(config)
    for name, target in config.notifications.targets.items():
        _check_target(f"notifications.targets.{name}", name, target)
    for name, policy in config.policies.items():
        for store_name in policy.stores:
            if store_name not in config.stores:
                known = ", ".join(sorted(config.stores))
                raise ConfigError(f'policies.{name}.stores: there is no store "{store_name}"; one of: {known}')


def _check_domains(config: Config) -> None:
    accelerated, websites = config.accelerate_domains, config.website_domains
    for key, domains in (("domains", config.domains), ("accelerate_domains", accelerated), ("website_domains", websites)):
        for domain in domains:
            if not _DOMAIN.fullmatch(domain):
                raise ConfigError(f'{key}: "{domain}" is not a host name; write it as in "s3.example.org"')
    if both := _lower(config.domains) & _lower(accelerated):
        raise ConfigError(f'accelerate_domains: "{min(both)}" is one of `domains`, too; by that name, buckets are served anyway')
    own = _lower(("localhost", listen_address(config.listen)[0], urlsplit(config.public_url).hostname or ""))
    if both := own & _lower(accelerated):
        raise ConfigError(f'accelerate_domains: "{min(both)}" is a name of this server, where buckets are in the path; name another')
    for key, domains in (("domains", config.domains), ("accelerate_domains", accelerated)):
        if both := _lower(domains) & _lower(websites):
            raise ConfigError(f'website_domains: "{min(both)}" is one of `{key}`, too; a bucket and its website need different names')


def _lower(domains: Iterable[str]) -> set[str]:
    return {domain.lower() for domain in domains}


def _check_locations(config: Config) -> None:
    for name, policy in config.locations.items():
        if policy not in config.policies:
            raise ConfigError(f'locations.{name}: there is no policy "{policy}"; one of: {", ".join(sorted(config.policies))}')
        if name in config.policies:
            raise ConfigError(f"locations.{name}: a policy has this name, and a LocationConstraint means it already; remove the line")


def _check_provider(key: str, provider: OidcConfig) -> None:
    scheme, _, rest = provider.issuer.partition("://")
    host = rest.partition("/")[0]
    is_here = scheme == "http" and (host.partition(":")[0] in {"127.0.0.1", "localhost"} or host.startswith("[::1]"))
    if not host or "?" in rest or "#" in rest or not (scheme == "https" or is_here):
        raise ConfigError(f'{key}.issuer: "{provider.issuer}" is not https://HOST[/PATH]; write it as the provider does in its tokens')
    if not provider.audiences:
        raise ConfigError(f"{key}.audiences: there are none; name what the provider makes its tokens for")


def _check_networks(networks: Iterable[str]) -> None:
    for network in networks:
        try:
            ip_network(network)
        except ValueError:
            raise ConfigError(f'trusted_proxies: "{network}" is no network; write it as in "10.0.0.0/8" or "192.0.2.7"') from None


def _check_store(key: str, name: str, store: StoreConfig) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{key}: a store's name is lower-case letters, digits and hyphens; rename it")
    values = msgspec.structs.asdict(store)
    for field in NEEDED_KEYS[store.kind]:
        if not values[field]:
            raise ConfigError(f"{key}.{field}: a store of kind {store.kind} needs it; add it")
    for info in msgspec.structs.fields(StoreConfig):
        if info.name not in KEYS_OF_KIND[store.kind] and values[info.name] != info.default:
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


def _check_target(key: str, name: str, target: TargetConfig) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{key}: a target's name is lower-case letters, digits and hyphens, as the end of an ARN has it; rename it")
    values = msgspec.structs.asdict(target)
    needed, allowed = KEYS_OF_TARGET[target.kind]
    for field in needed:
        if not values[field]:
            raise ConfigError(f"{key}.{field}: a target of kind {target.kind} needs it; add it")
    for info in msgspec.structs.fields(TargetConfig):
        if info.name not in {"kind", "timeout_seconds", *needed, *allowed} and values[info.name] != info.default:
            raise ConfigError(f"{key}.{info.name}: means nothing for a target of kind {target.kind}; remove it")
    if target.url and not target.url.startswith(_SCHEMES[target.kind]):
        raise ConfigError(f'{key}.url: "{target.url}" is no URL of a {target.kind}; write it with {_SCHEMES[target.kind][0]}')
    if target.credentials:
        private_text(Path(target.credentials), f"{key}.credentials")


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
