"""Answers that take long: white space keeps the client, and what comes of it is told at the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from prometheus_client import CollectorRegistry

from proxy.errors import NotEnoughShards
from proxy.metrics import Counts
from proxy.server.app import listening
from proxy.server.dispatch import Dispatcher
from proxy.server.telemetry import Telemetry
from proxy.services import Services
from proxy.tenancy import add_access_key
from tests.laboratory import Laboratory, laboratory

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

SLOW_SECONDS = 0.3
WHITE_SPACE_SECONDS = 0.02
NEVER_SECONDS = 1000.0
BEGUN = b'<?xml version="1.0" encoding="UTF-8"?>\n '


class SlowEngine:
    """An engine whose long verbs take their time, and fail if they are told to."""

    def __init__(self, services: Services, seconds: float) -> None:
        self._engine = services.engine
        self._seconds = seconds
        self.fails = False

    def __getattr__(self, name: str) -> object:
        verb = getattr(self._engine, name)
        return self._slow(verb) if name in {"copy_object", "copy_part", "complete_upload"} else verb

    def _slow(self, verb: Callable[..., object]) -> object:
        async def call(*given: object, **options: object) -> object:
            await asyncio.sleep(self._seconds)
            if self.fails:
                raise NotEnoughShards(needed=4, found=3, segment="ab")
            return await verb(*given, **options)  # type: ignore[misc]

        return call


class Client:
    """boto3 beside a server in this very process, its engine, and the bodies it was answered with."""

    def __init__(self, s3: S3Client, engine: SlowEngine) -> None:
        self.s3 = s3
        self.engine = engine
        self.bodies: list[bytes] = []
        s3.meta.events.register("before-parse.s3", lambda response_dict, **_: self.bodies.append(response_dict["body"]))

    async def ask(self, operation: str, **params: object) -> dict[str, object]:
        answer: dict[str, object] = await asyncio.to_thread(getattr(self.s3, operation), Bucket="bucket", **params)
        return answer


@asynccontextmanager
async def running(data: Path, *, white_space_seconds: float = WHITE_SPACE_SECONDS) -> AsyncIterator[Laboratory]:
    async with laboratory(data, now_ms=int(time.time() * 1000), white_space_seconds=white_space_seconds) as lab:
        await lab.put("k", b"hello")
        yield lab


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with running(tmp_path) as opened:
        yield opened


@asynccontextmanager
async def serving(lab: Laboratory, engine: SlowEngine) -> AsyncIterator[Client]:
    services = replace(lab.services, engine=engine)  # type: ignore[arg-type]
    credentials = await add_access_key(services.manifest, services.keyring, lab.clock, lab.tenant)
    async with listening(Dispatcher(services, Telemetry(Counts(CollectorRegistry()))), host="127.0.0.1", port=0) as port:
        s3 = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id=credentials.access_key,
            aws_secret_access_key=credentials.secret_key,
            config=Config(retries={"total_max_attempts": 1}),
        )
        yield Client(s3, engine)
        s3.close()


async def begin(client: Client) -> tuple[str, dict[str, object]]:
    upload = str((await client.ask("create_multipart_upload", Key="whole"))["UploadId"])
    part = await client.ask("upload_part", Key="whole", UploadId=upload, PartNumber=1, Body=b"hello")
    return upload, {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}


async def test_a_slow_copy_is_begun_with_white_space(lab: Laboratory) -> None:
    async with serving(lab, SlowEngine(lab.services, SLOW_SECONDS)) as client:
        answer = await client.ask("copy_object", Key="copy", CopySource="bucket/k")
        assert client.bodies[-1].startswith(BEGUN)
        assert answer["CopyObjectResult"]["ETag"] == '"5d41402abc4b2a76b9719d911017c592"'  # type: ignore[index]
        assert await lab.get("copy") == b"hello"


async def test_a_slow_completion_and_a_slow_part_copy_are_begun_with_white_space(lab: Laboratory) -> None:
    async with serving(lab, SlowEngine(lab.services, SLOW_SECONDS)) as client:
        upload, parts = await begin(client)
        await client.ask("upload_part_copy", Key="whole", UploadId=upload, PartNumber=2, CopySource="bucket/k")
        assert client.bodies[-1].startswith(BEGUN)
        answer = await client.ask("complete_multipart_upload", Key="whole", UploadId=upload, MultipartUpload=parts)
        assert client.bodies[-1].startswith(BEGUN)
        assert (answer["Bucket"], answer["Key"]) == ("bucket", "whole")
        assert await lab.get("whole") == b"hello"


@pytest.mark.parametrize(("seconds", "white_space_seconds"), [(SLOW_SECONDS, WHITE_SPACE_SECONDS), (0, NEVER_SECONDS)])
async def test_a_failure_is_told_whether_the_answer_was_begun_or_not(tmp_path: Path, seconds: float, white_space_seconds: float) -> None:
    async with running(tmp_path, white_space_seconds=white_space_seconds) as lab, serving(lab, SlowEngine(lab.services, seconds)) as client:
        engine = client.engine
        engine.fails = True
        with pytest.raises(ClientError) as caught:
            await client.ask("copy_object", Key="copy", CopySource="bucket/k")
        assert caught.value.response["Error"]["Code"] == "SlowDown"
        assert client.bodies[-1].startswith(BEGUN) == (seconds > 0)
        engine.fails = False
        await client.ask("copy_object", Key="copy", CopySource="bucket/k")  # over the same connection


async def test_a_quick_copy_has_its_headers(tmp_path: Path) -> None:
    async with running(tmp_path, white_space_seconds=NEVER_SECONDS) as lab, serving(lab, SlowEngine(lab.services, 0)) as client:
        answer = await client.ask("copy_object", Key="copy", CopySource="bucket/k")
        assert answer["ServerSideEncryption"] == "AES256"
        assert not client.bodies[-1].startswith(BEGUN)


async def test_a_copy_goes_on_for_a_client_that_went_away(lab: Laboratory) -> None:
    engine = SlowEngine(lab.services, SLOW_SECONDS)
    async with serving(lab, engine) as client:
        url = client.s3.generate_presigned_url("copy_object", Params={"Bucket": "bucket", "Key": "copy", "CopySource": "bucket/k"})
        port, target = int(urlsplit(url).port or 0), f"{urlsplit(url).path}?{urlsplit(url).query}"
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        headers = f"Host: 127.0.0.1:{port}\r\nx-amz-copy-source: bucket/k\r\nContent-Length: 0\r\n"
        writer.write(f"PUT {target} HTTP/1.1\r\n{headers}\r\n".encode())
        await reader.readuntil(b"<?xml")
        writer.transport.abort()
    # The server ends only after its requests have.
    assert await lab.get("copy") == b"hello"
