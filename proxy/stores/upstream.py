"""Buckets at real providers, and memory: one adapter over obstore for S3, Google Cloud Storage, Azure Blob and an in-memory store.

obstore's own retries are turned off: the engine decides whether another try or another store is better. Payloads are not hashed for the
signature over TLS, because every cell is authenticated already.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import obstore
from obstore import exceptions
from obstore.store import AzureStore, GCSStore, MemoryStore, S3Store

from proxy.errors import ShardMissing, StoreError, StoreRejected, StoreUnavailable
from proxy.stores.protocol import ShardName, StoreInfo

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig, S3Config

_FAILURES = (exceptions.BaseError, OSError)  # what is not found comes as Python's own FileNotFoundError
_REJECTED = (
    exceptions.PermissionDeniedError,
    exceptions.UnauthenticatedError,
    exceptions.InvalidPathError,
    exceptions.NotSupportedError,
    exceptions.UnknownConfigurationKeyError,
)


# What S3, Google and Azure say when it is the bucket that is not there.
_BUCKET_ABSENT = ("NoSuchBucket", "The specified bucket does not exist", "ContainerNotFound")


class UpstreamStore:
    """A store behind obstore."""

    def __init__(self, info: StoreInfo, inner: ObjectStore) -> None:
        self.info = info
        self._inner = inner

    async def put(self, name: ShardName, body: Sequence[bytes | bytearray | memoryview]) -> None:
        data = bytes(body[0]) if len(body) == 1 else b"".join(body)
        try:
            await obstore.put_async(self._inner, name, data, use_multipart=False)
        except _FAILURES as error:
            raise self._translated(name, error) from error

    async def get_range(self, name: ShardName, start: int, length: int) -> memoryview:
        try:
            data = memoryview(await obstore.get_range_async(self._inner, name, start=start, length=length))
        except _FAILURES as error:
            raise self._translated(name, error) from error
        if len(data) != length:
            raise ShardMissing(self.info.name, f"shard {name} ends before byte {start + length}")
        return data

    async def get(self, name: ShardName) -> memoryview:
        try:
            result = await obstore.get_async(self._inner, name)
            return memoryview(await result.bytes_async())
        except _FAILURES as error:
            raise self._translated(name, error) from error

    async def list(self, prefix: str = "") -> AsyncIterator[tuple[ShardName, int]]:
        # Upstream prefixes are whole path segments; the rest of the prefix is compared here.
        folder = prefix.rpartition("/")[0]
        try:
            async for batch in obstore.list(self._inner, folder or None):
                for meta in batch:
                    if meta["path"].startswith(prefix):
                        yield ShardName(meta["path"]), meta["size"]
        except _FAILURES as error:
            raise self._translated(prefix, error) from error

    async def delete(self, name: ShardName) -> None:
        try:
            await obstore.delete_async(self._inner, name)
        except _FAILURES as error:
            translated = self._translated(name, error)
            if not isinstance(translated, ShardMissing):
                raise translated from error

    async def close(self) -> None:
        """Connections end with the object."""

    def _translated(self, name: str, error: Exception) -> StoreError:
        text = str(error).splitlines()[0][:300]
        absent = isinstance(error, (exceptions.NotFoundError, FileNotFoundError))
        if absent and not any(code in str(error) for code in _BUCKET_ABSENT):
            return ShardMissing(self.info.name, f"no shard {name}")
        if absent or isinstance(error, _REJECTED):
            return StoreRejected(self.info.name, text)
        return StoreUnavailable(self.info.name, text)


def memory_store(info: StoreInfo) -> UpstreamStore:
    """Return a store that forgets everything with the process."""
    return UpstreamStore(info, MemoryStore())


def s3_store(
    info: StoreInfo,
    *,
    bucket: str,
    prefix: str = "",
    endpoint: str = "",
    access_key: str = "",
    secret_key: str = "",
    timeout_seconds: float = 60,
) -> UpstreamStore:
    """Return an S3 bucket, or one that speaks S3. Without keys, boto3's credential chain is asked, again before they expire."""
    config = cast("S3Config", {"region": info.region, "unsigned_payload": not endpoint.startswith("http://")})
    if endpoint:
        config["endpoint"] = endpoint
        config["virtual_hosted_style_request"] = False
    options = _client_options(endpoint, timeout_seconds)
    if access_key:
        config["access_key_id"] = access_key
        config["secret_access_key"] = secret_key
        return UpstreamStore(
            info, S3Store(bucket, prefix=prefix or None, config=config, client_options=options, retry_config=_no_retries())
        )
    from obstore.auth.boto3 import Boto3CredentialProvider  # it imports boto3, which costs 0.2 s where nobody needs it

    provider = Boto3CredentialProvider()
    return UpstreamStore(
        info,
        S3Store(
            bucket, prefix=prefix or None, config=config, client_options=options, retry_config=_no_retries(), credential_provider=provider
        ),
    )


def gcs_store(
    info: StoreInfo, *, bucket: str, prefix: str = "", endpoint: str = "", service_account: str = "", timeout_seconds: float = 60
) -> UpstreamStore:
    """Return a Google Cloud Storage bucket; `service_account` is a key file's path, else the application default credentials are used."""
    config: dict[str, str] = {}
    if endpoint:
        config["base_url"] = endpoint
        config["skip_signature"] = "true"
    elif service_account:
        config["service_account"] = service_account
    return UpstreamStore(
        info,
        GCSStore(
            bucket,
            prefix=prefix or None,
            config=config,  # type: ignore[arg-type]  # keys are checked by obstore
            client_options=_client_options(endpoint, timeout_seconds),
            retry_config=_no_retries(),
        ),
    )


def azure_store(
    info: StoreInfo,
    *,
    container: str,
    account: str,
    account_key: str = "",
    prefix: str = "",
    endpoint: str = "",
    timeout_seconds: float = 60,
) -> UpstreamStore:
    """Return an Azure Blob container; without a key, the environment's or the machine's identity is used."""
    config: dict[str, str] = {"account_name": account}
    if account_key:
        config["account_key"] = account_key
    if endpoint:
        config["endpoint"] = endpoint
    return UpstreamStore(
        info,
        AzureStore(
            container,
            prefix=prefix or None,
            config=config,  # type: ignore[arg-type]  # keys are checked by obstore
            client_options=_client_options(endpoint, timeout_seconds),
            retry_config=_no_retries(),
        ),
    )


def _client_options(endpoint: str, timeout_seconds: float) -> ClientConfig:
    return {
        "timeout": timedelta(seconds=timeout_seconds),
        "connect_timeout": timedelta(seconds=min(timeout_seconds, 5)),
        "allow_http": endpoint.startswith("http://"),
        "pool_idle_timeout": timedelta(seconds=30),
    }


def _no_retries() -> RetryConfig:
    return {"max_retries": 0, "retry_timeout": timedelta(seconds=0)}
