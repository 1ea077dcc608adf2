"""Opens a configured store as the engine wants it: limited, behind deadlines, and observed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from proxy.clock import Clock
from proxy.config import StoreConfig
from proxy.errors import ConfigError
from proxy.lanes import Lanes
from proxy.stores.convoy import Convoy
from proxy.stores.directory import DirectoryStore
from proxy.stores.late import LateStore
from proxy.stores.limit import LimitedStore
from proxy.stores.observe import ObservedStore, Recorder
from proxy.stores.protocol import Prices, Store, StoreInfo, StoreName
from proxy.stores.upstream import azure_store, gcs_store, memory_store, s3_endpoint, s3_store

logger = logging.getLogger(__name__)

CREATE_BUCKET_SECONDS = 10


def store_info(name: str, config: StoreConfig) -> StoreInfo:
    """Return what placement needs to know of a configured store."""
    prices = Prices(
        storage_gb_month=config.prices.storage_gb_month,
        put_per_thousand=config.prices.put_per_thousand,
        get_per_thousand=config.prices.get_per_thousand,
        egress_gb=config.prices.egress_gb,
    )
    return StoreInfo(
        name=StoreName(name),
        provider=config.provider,
        region=config.region,
        jurisdiction=config.jurisdiction,
        prices=prices,
        minimum_days=config.minimum_days,
    )


class Opened(NamedTuple):
    """A store, and whether it was there: a directory may be on a disk that is not mounted, or does not answer."""

    store: ObservedStore
    present: bool


async def open_store(
    name: str,
    config: StoreConfig,
    *,
    clock: Clock,
    create: bool,
    open_seconds: float,
    put_seconds: float,
    get_seconds: float,
    record: Recorder | None = None,
    convoy: Convoy | None = None,
    tidy: bool = False,
) -> Opened:
    """Open a store; `create` makes the directory of a new one, `tidy` removes what crashes left.

    `convoy` is that of all directories. A provider that cannot be reached is no error, its calls will fail; what can never
    work is a `ConfigError`. What does not open in `open_seconds` goes on opening in the background.
    """
    store = await open_bare(name, config, create=create, open_seconds=open_seconds, timeout_seconds=put_seconds, convoy=convoy, tidy=tidy)
    limited = LimitedStore(store, concurrency=config.concurrency, put_seconds=put_seconds, get_seconds=get_seconds)
    return Opened(ObservedStore(limited, clock, record=record), _is_present(store))


async def open_bare(
    name: str,
    config: StoreConfig,
    *,
    create: bool,
    open_seconds: float,
    timeout_seconds: float,
    convoy: Convoy | None = None,
    tidy: bool = False,
) -> Store:
    """Open a store without limits, deadlines and a memory: for whoever examines what it really does."""
    info = store_info(name, config)
    opening = _begin(
        name,
        lambda: _bare_store(info, config, create=create, timeout_seconds=timeout_seconds, convoy=convoy, tidy=tidy),
    )
    try:
        await asyncio.wait({opening}, timeout=open_seconds)
    except asyncio.CancelledError:
        opening.cancel()
        raise
    if opening.done():
        return opening.result()
    if create and config.kind == "directory":
        # Made later, behind the manifest's back, it would be made again at each start at which its disk is not mounted.
        raise ConfigError(f"stores.{name}.path: {config.path} does not answer, and a new store must; check its disk, or remove the store")
    opening.add_done_callback(partial(_report_late, name))
    return LateStore(info, opening)


def _begin(name: str, call: Callable[[], Store]) -> asyncio.Future[Store]:
    """Open in a thread, which nobody waits for at the end: a mount may hang for ever, a credential chain for long."""
    lanes = Lanes(1, name=f"open-{name}")
    opening = asyncio.ensure_future(lanes.run(lambda _: call()))
    opening.add_done_callback(lambda _: lanes.close())
    return opening


def _is_present(store: Store) -> bool:
    return store.present if isinstance(store, DirectoryStore) else not isinstance(store, LateStore)


def _report_late(name: str, opening: asyncio.Future[Store]) -> None:
    if opening.cancelled():
        return
    if error := opening.exception():
        logger.warning("stores.%s cannot be opened: %s", name, error)
    else:
        logger.warning("stores.%s is open at last", name)


def _bare_store(
    info: StoreInfo,
    config: StoreConfig,
    *,
    create: bool,
    timeout_seconds: float,
    convoy: Convoy | None,
    tidy: bool,
) -> Store:
    match config.kind:
        case "directory":
            path = Path(config.path)
            return DirectoryStore(info, path, create=create, fsync=config.fsync, convoy=convoy, tidy=tidy)
        case "memory":
            return memory_store(info)
        case "gcs":
            return gcs_store(
                info,
                bucket=config.bucket,
                prefix=config.prefix,
                endpoint=config.endpoint,
                service_account=config.service_account,
                anonymous=config.anonymous,
                timeout_seconds=timeout_seconds,
            )
        case "azure":
            return azure_store(
                info,
                container=config.bucket,
                prefix=config.prefix,
                endpoint=config.endpoint,
                account=config.account,
                account_key=config.account_key,
                timeout_seconds=timeout_seconds,
            )
        case "s3":
            if config.create_bucket:
                _create_bucket(info, config)
            return s3_store(
                info,
                bucket=config.bucket,
                prefix=config.prefix,
                endpoint=config.endpoint,
                access_key=config.access_key,
                secret_key=config.secret_key,
                timeout_seconds=timeout_seconds,
            )


def _create_bucket(info: StoreInfo, config: StoreConfig) -> None:
    """Create the bucket if it is not there. That it cannot be created is logged: it may exist all the same, its provider be down."""
    import boto3  # 0.2 s, where no bucket is to be created
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client = boto3.client(
            "s3",
            endpoint_url=config.endpoint or s3_endpoint(config.region),
            region_name=config.region,
            aws_access_key_id=config.access_key or None,
            aws_secret_access_key=config.secret_key or None,
            config=Config(connect_timeout=CREATE_BUCKET_SECONDS, read_timeout=CREATE_BUCKET_SECONDS, retries={"total_max_attempts": 1}),
        )
        # us-east-1 is the one region that must not be named: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html
        if config.region == "us-east-1":
            client.create_bucket(Bucket=config.bucket)
        else:
            client.create_bucket(
                Bucket=config.bucket,
                # The stubs list AWS's regions; other providers have others.
                CreateBucketConfiguration={"LocationConstraint": config.region},  # type: ignore[typeddict-item, unused-ignore]
            )
    except (BotoCoreError, ClientError) as error:
        code = error.response.get("Error", {}).get("Code", "") if isinstance(error, ClientError) else ""
        if code != "BucketAlreadyOwnedByYou":
            logger.warning("stores.%s: cannot create the bucket %s: %s", info.name, config.bucket, error)
