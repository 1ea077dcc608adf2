"""Buckets at real providers, and memory: one adapter over obstore for S3, Google Cloud Storage, Azure Blob and an in-memory store.

obstore's own retries are turned off: the engine decides whether another try or another store is better. Payloads are not hashed for the
signature over TLS, because every cell is authenticated already.

obstore takes what it is not told from the environment (AWS_ENDPOINT_URL, AWS_SESSION_TOKEN, ...). The configuration decides here, so
endpoints are always given, and configured keys go in as a credential provider: given as options, they would be sent together with a session
token of the environment.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import obstore
from obstore import exceptions
from obstore.store import AzureStore, GCSStore, MemoryStore, S3Store

from proxy.errors import ConfigError, ShardMissing, ShardOversized, ShardTruncated, StoreError, StoreRejected, StoreUnavailable
from proxy.stores.protocol import MAX_SHARD_SIZE, ShardFacts, ShardName, StoreInfo

if TYPE_CHECKING:
    from obstore import GetResult
    from obstore.auth.boto3 import Boto3CredentialProvider
    from obstore.store import ClientConfig, GCSCredential, ObjectStore, RetryConfig, S3Config, S3Credential

# botocore renews what expires at least 10 minutes before it does, and obstore asks again 5 minutes before this has passed. Its default of
# 30 minutes would go on using keys of an instance role after their end.
CREDENTIALS_TTL = timedelta(minutes=10)

_FAILURES = (exceptions.BaseError, OSError)  # what is not found comes as Python's own FileNotFoundError
_REJECTED = (
    exceptions.PermissionDeniedError,
    exceptions.UnauthenticatedError,
    exceptions.InvalidPathError,
    exceptions.NotSupportedError,
    exceptions.UnknownConfigurationKeyError,
)
# obstore has no type for these: it says them in its message.
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")
_RANGE_BEYOND_END = re.compile(r"status code: 416|Wanted range starting at")
# What S3, Google and Azure say when it is the bucket that is not there. A batch of Azure says it in words.
_BUCKET_ABSENT = re.compile(r"NoSuchBucket|The specified bucket does not exist|ContainerNotFound|The specified container does not exist")
# 4xx that pass: timeouts, throttling, a conflict with another request, a clock or a session that is renewed.
_PASSING_STATUS = frozenset({408, 409, 425, 429})
_PASSING_CODE = frozenset({"RequestTimeout", "ExpiredToken", "RequestTimeTooSkewed", "Throttling", "ThrottlingException", "SlowDown"})


class UpstreamStore:
    """A store behind obstore."""

    def __init__(self, info: StoreInfo, inner: ObjectStore, *, keeps_buffers: bool = False) -> None:
        """`keeps_buffers`: `inner` goes on using what it was given after a put, so it must be given copies."""
        self.info = info
        self._inner = inner
        self._keeps_buffers = keeps_buffers

    async def put(self, name: ShardName, body: Sequence[bytes | bytearray | memoryview]) -> None:
        # The pieces are sent as they lie: joined they would lie in memory twice, and it is no faster (4 MiB: 1.8 ms of CPU either way).
        data = b"".join(body) if self._keeps_buffers else list(body)
        try:
            await obstore.put_async(self._inner, name, data, use_multipart=False)
        except _FAILURES as error:
            raise self._translated(name, error) from error

    async def get_range(self, name: ShardName, start: int, length: int) -> memoryview:
        try:
            result = await obstore.get_async(self._inner, name, options={"range": (start, start + length)})
            data = await self._read(result, length)
        except _FAILURES as error:
            raise self._translated(name, error) from error
        if len(data) != length:
            raise ShardTruncated(self.info.name, f"shard {name} ends before byte {start + length}")
        return data

    async def get(self, name: ShardName) -> memoryview:
        try:
            result = await obstore.get_async(self._inner, name)
            if result.meta["size"] > MAX_SHARD_SIZE:
                raise ShardOversized(self.info.name, f"offers {result.meta['size']} bytes as {name}: no shard is that large")
            return await self._read(result, result.meta["size"])
        except _FAILURES as error:
            raise self._translated(name, error) from error

    async def _read(self, result: GetResult, length: int) -> memoryview:
        """Return the body, of at most `length` bytes. A provider may send any number of them: what is beyond is left unread.

        `get_range_async` takes whatever comes. This way costs 0.06 ms more of some 0.17 for a small range, and a megabyte is faster.
        """
        # The first chunk has at least so many bytes, or all there are.
        data = memoryview(await anext(aiter(result.stream(min_chunk_size=max(length, 1))), b""))
        if len(data) > length:
            raise StoreUnavailable(self.info.name, f"sent more than the {length} bytes asked for")
        return data

    async def list(self, prefix: str = "") -> AsyncIterator[tuple[ShardName, int]]:
        # Upstream prefixes are whole path segments. The rest of the prefix is sought by an offset, which names come behind, in order.
        folder, _, rest = prefix.rpartition("/")
        try:
            async for batch in obstore.list(self._inner, folder or None, offset=prefix[:-1] if rest[1:] else None):
                for meta in batch:
                    name = meta["path"]
                    if name.startswith(prefix):
                        yield ShardName(name), meta["size"]
                    elif name > prefix:
                        return  # what comes behind the prefix ends it
        except _FAILURES as error:
            raise self._translated(None, error) from error

    async def delete(self, name: ShardName) -> None:
        try:
            await obstore.delete_async(self._inner, name)
        except _FAILURES as error:
            translated = self._translated(name, error)
            if not isinstance(translated, ShardMissing):
                raise translated from error

    async def facts(self, name: ShardName) -> ShardFacts:
        try:
            meta = await obstore.head_async(self._inner, name)
        except _FAILURES as error:
            raise self._translated(name, error) from error
        modified_ms = int(meta["last_modified"].timestamp() * 1000)
        return ShardFacts(size_bytes=meta["size"], modified_ms=modified_ms, etag=meta["e_tag"] or "", version=meta["version"] or "")

    async def put_new(self, name: ShardName, body: bytes) -> bool:
        try:
            await obstore.put_async(self._inner, name, body, mode="create", use_multipart=False)
        except exceptions.AlreadyExistsError:
            return False
        except _FAILURES as error:
            raise self._translated(name, error) from error
        return True

    async def close(self) -> None:
        """Connections end with the object."""

    def _translated(self, name: ShardName | None, error: Exception) -> StoreError:
        """Translate an error of obstore. Its text is not repeated: it quotes the provider's answer, signatures included."""
        text = str(error)
        status = _STATUS.search(text)
        code = _CODE.search(text)
        facts = " ".join(match[1] for match in (status, code) if match) or _cause(text)
        if _BUCKET_ABSENT.search(text):
            return StoreRejected(self.info.name, f"the bucket does not exist ({facts})")
        if name is not None and isinstance(error, (exceptions.NotFoundError, FileNotFoundError)):
            return ShardMissing(self.info.name, f"no shard {name}")
        if name is not None and _RANGE_BEYOND_END.search(text):
            return ShardTruncated(self.info.name, f"shard {name} ends before the range asked for")
        passing = (code and code[1] in _PASSING_CODE) or (status and int(status[1]) in _PASSING_STATUS)
        refused = isinstance(error, _REJECTED) or (status is not None and status[1].startswith("4"))
        if refused and not passing:
            return StoreRejected(self.info.name, f"refused: {facts}")
        return StoreUnavailable(self.info.name, facts)


def _cause(text: str) -> str:
    """Return the last part of an error that has no answer to quote, as in "HTTP error: error sending request"."""
    return text.partition("\n")[0].rpartition(" - ")[2][:200]


def memory_store(info: StoreInfo) -> UpstreamStore:
    """Return a store that forgets everything with the process."""
    return UpstreamStore(info, MemoryStore(), keeps_buffers=True)


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
    """Return an S3 bucket, or one that speaks S3. Without keys, boto3's credential chain is asked, again before they expire.

    This may block, when the chain asks the machine's metadata service; `ConfigError` if it has no credentials.
    """
    endpoint = endpoint or s3_endpoint(info.region)
    config = {
        "region": info.region,
        "endpoint": endpoint,
        "virtual_hosted_style_request": False,
        "unsigned_payload": not endpoint.startswith("http://"),
        "disable_bulk_delete": True,  # shards go one by one: a plain DELETE, which every S3 there is understands
    }
    return UpstreamStore(
        info,
        S3Store(
            bucket,
            prefix=prefix or None,
            config=cast("S3Config", config),
            client_options=_client_options(endpoint, timeout_seconds),
            retry_config=_no_retries(),
            credential_provider=_s3_keys(access_key, secret_key) if access_key else _s3_chain(info),
        ),
    )


def s3_endpoint(region: str) -> str:
    """Return the URL of Amazon S3 in a region."""
    return f"https://s3.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"


def gcs_store(
    info: StoreInfo,
    *,
    bucket: str,
    prefix: str = "",
    endpoint: str = "",
    service_account: str = "",
    anonymous: bool = False,
    timeout_seconds: float = 60,
) -> UpstreamStore:
    """Return a Google Cloud Storage bucket; `service_account` is a key file's path, else the application default credentials are used.

    `anonymous`: the endpoint is an emulator that asks for no credentials.
    """
    config = {"base_url": endpoint or "https://storage.googleapis.com"}
    if service_account:
        config["service_account"] = service_account
    return UpstreamStore(
        info,
        GCSStore(
            bucket,
            prefix=prefix or None,
            config=config,  # type: ignore[arg-type]  # keys are checked by obstore
            client_options=_client_options(endpoint, timeout_seconds),
            retry_config=_no_retries(),
            # `skip_signature` is ignored by writes: object_store fetches a token for them all the same.
            credential_provider=_no_gcs_token if anonymous else None,
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
    config = {"account_name": account, "endpoint": endpoint or f"https://{account}.blob.core.windows.net"}
    if account_key:
        config["account_key"] = account_key
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


def _s3_keys(access_key: str, secret_key: str) -> Callable[[], S3Credential]:
    return lambda: {"access_key_id": access_key, "secret_access_key": secret_key, "token": None, "expires_at": None}


def _s3_chain(info: StoreInfo) -> Boto3CredentialProvider:
    from obstore.auth.boto3 import Boto3CredentialProvider  # it imports boto3, which costs 0.2 s where nobody needs it

    try:
        provider = Boto3CredentialProvider(ttl=CREDENTIALS_TTL)
    except ValueError as error:
        raise ConfigError(f"stores.{info.name}: boto3 finds no credentials; set access_key and secret_key, or log in") from error
    provider.config = {}  # the session's region; the store has its own
    return provider


def _no_gcs_token() -> GCSCredential:
    return {"token": "none", "expires_at": None}


def _client_options(endpoint: str, timeout_seconds: float) -> ClientConfig:
    return {
        "timeout": timedelta(seconds=timeout_seconds),
        "connect_timeout": timedelta(seconds=min(timeout_seconds, 5)),
        "allow_http": endpoint.startswith("http://"),
        "pool_idle_timeout": timedelta(seconds=30),
    }


def _no_retries() -> RetryConfig:
    return {"max_retries": 0, "retry_timeout": timedelta(seconds=0)}
