"""The sections of the configuration file, each with its keys and their defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

_YEAR = 365 * 24 * 3600  # a deadline of infinity is none

Text = Annotated[str, msgspec.Meta(min_length=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=_YEAR)]
SecondsOrNone = Annotated[float, msgspec.Meta(ge=0, le=_YEAR)]
Days = Annotated[float, msgspec.Meta(ge=0, le=3650)]
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
    minimum_days: Count = 0

    def __repr__(self) -> str:
        shown = {name: "..." if name in _SECRETS and value else value for name, value in msgspec.structs.asdict(self).items()}
        return f"StoreConfig({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


_SECRETS = frozenset({"secret_key", "account_key"})


UNITS = ("store", "provider", "region", "jurisdiction")  # what a store belongs to, and policies count


class MayFailConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    stores: Count = 0
    providers: Count = 0
    regions: Count = 0


class CoalitionConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may act as one: every store that is one of these, or belongs to one of them."""

    providers: tuple[Text, ...] = ()
    jurisdictions: tuple[Text, ...] = ()
    regions: tuple[Text, ...] = ()  # PROVIDER/REGION
    stores: tuple[Text, ...] = ()


class PolicyConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    scheme: str
    stores: tuple[str, ...] = ()  # none named: all
    jurisdictions: tuple[str, ...] = ()  # none named: any
    may_fail: MayFailConfig = MayFailConfig()
    never_together: tuple[str, ...] = ("provider", "jurisdiction")  # units and coalitions
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
    access_log_seconds: Seconds = 300.0
    background_requests_per_second: Positive = 1000
    background_mib_per_second: Positive = 64


class ScrubConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many days a pass may take; 0: none is made."""

    light_days: Days = 1.0
    deep_days: Days = 30.0


class RepairConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one store may be found to have lost before its repair waits for an operator: more than both."""

    brake_shards: Positive = 1000
    brake_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.01


class FsckConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    quarantine_days: Days = 7.0


class PacksConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Small objects that share a segment: those below a size (0: none), and when that is written anew."""

    below_kib: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 128
    linger_ms: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    repack_within_days: Annotated[float, msgspec.Meta(gt=0, le=3650)] = 7.0
    repack_requests_per_day: Count = 500_000


class JournalConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The copy of the manifest in the stores."""

    enabled: bool = True
    policy: str = ""  # none: the default policy
    interval_ms: Positive = 1000
    acknowledge: Literal["needed", "all"] = "needed"
    acknowledge_seconds: Seconds = 10.0
    checkpoint_share: Annotated[float, msgspec.Meta(gt=0)] = 0.5
    checkpoint_min_mib: Positive = 16
    keep_seconds: SecondsOrNone = 24 * 3600.0


class CacheConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The cache of what was read: "clouds" means where a store is in a cloud."""

    use: Literal["clouds", "always", "never"] = "clouds"
    memory_mib: Count = 64
    directory: str = ""
    directory_mib: Annotated[int, msgspec.Meta(ge=64)] = 1024


class OidcConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An OpenID Connect provider whose tokens may stand for a role. `audiences`: what it makes them for."""

    issuer: Text
    audiences: tuple[Text, ...]


class TargetConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody who is told of events."""

    kind: Literal["webhook", "nats", "file"]
    url: str = ""  # webhook, nats
    authorization: str = ""  # webhook: the header's value
    subject: str = ""  # nats
    token: str = ""  # nats
    credentials: str = ""  # nats: path of a credentials file
    path: str = ""  # file
    timeout_seconds: Seconds = 10.0

    def __repr__(self) -> str:
        return f"TargetConfig(kind={self.kind!r}, subject={self.subject!r}, path={self.path!r})"  # a URL may have a secret in it


class NotificationsConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Events: how long one waits for its target, and which targets there are."""

    keep_days: Days = 7.0
    targets: dict[str, TargetConfig] = {}


class S3Config(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    allow_customer_keys_without_tls: bool = False


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
    website_domains: tuple[str, ...] = ()  # bucket.DOMAIN is the bucket's website
    accelerate_domains: tuple[str, ...] = ()  # bucket.DOMAIN is the bucket, if its owner has acceleration enabled
    public_url: str = ""  # as clients know it, behind a proxy
    trusted_proxies: tuple[str, ...] = ()  # networks; their X-Forwarded-For and X-Forwarded-Proto are believed
    front_door: bool = True  # plain requests that are complete pass aiohttp's server by
    region: Text = "us-east-1"
    data: Text
    manifest: ManifestConfig
    root_key: RootKeyConfig
    stores: dict[str, StoreConfig]
    coalitions: dict[str, CoalitionConfig] = {}
    policies: dict[str, PolicyConfig]
    default_policy: str
    locations: dict[str, str] = {}  # LocationConstraint → policy
    oidc: dict[str, OidcConfig] = {}
    tls: TlsConfig | None = None  # none: plain HTTP
    s3: S3Config = S3Config()
    limits: LimitsConfig = LimitsConfig()
    cache: CacheConfig = CacheConfig()
    scrub: ScrubConfig = ScrubConfig()
    repair: RepairConfig = RepairConfig()
    fsck: FsckConfig = FsckConfig()
    packs: PacksConfig = PacksConfig()
    journal: JournalConfig = JournalConfig()
    notifications: NotificationsConfig = NotificationsConfig()
    log: LogConfig = LogConfig()

    @property
    def bucket_domains(self) -> tuple[str, ...]:
        """The domains below which buckets are."""
        return (*self.domains, *self.accelerate_domains)


def credentials_path(config: Config) -> Path:
    """Return where the first tenant's credentials are, in full: it is pasted elsewhere."""
    return Path(config.data).absolute() / "credentials"
