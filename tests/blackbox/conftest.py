"""A real server in a process of its own, and real clients: what these tests know of Shardgate is what S3 promises."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config

from tests.blackbox.raw import RawClient
from tests.blackbox.signer import Signer
from tests.certificates import Authority
from tests.servers import ROOT, Shardgate, shardgate

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

NewBucket = Callable[..., str]  # makes a bucket, and returns its name
DOMAIN = "s3.test"
WEBSITE_DOMAIN = "web.test"
ACCELERATE_DOMAIN = "fast.test"
LOCATION = "eu-west-1"
OTHER_ACCESS_KEY = "OTHEROTHEROTHEROTHER"
OTHER_EMAIL = "other@tenants.example"
OTHER_SECRET_KEY = "othersecretothersecretothersecretothersec"
OTHER_ACCOUNT = "444455556666"


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shardgate]:
    data = tmp_path_factory.mktemp("shardgate")
    config = data / "blackbox.toml"
    # As bench.toml (no fsync: these tests write a lot and never pull the plug), with a domain for virtual-hosted requests.
    domains = f'domains = ["{DOMAIN}"]\nwebsite_domains = ["{WEBSITE_DOMAIN}"]\naccelerate_domains = ["{ACCELERATE_DOMAIN}"]\n'
    config.write_text(f'{domains}locations = {{ {LOCATION} = "standard" }}\n' + (ROOT / "config" / "bench.toml").read_text())
    with shardgate(data, config=config) as running:
        keys = ["--access-key", OTHER_ACCESS_KEY, "--secret-key", OTHER_SECRET_KEY, "--account-id", OTHER_ACCOUNT, "--email", OTHER_EMAIL]
        add = ["tenant", "add", "other", "--config", str(config), *keys]
        environ = {**os.environ, "SHARDGATE_DATA": str(data)}
        subprocess.run([sys.executable, "-m", "proxy.cli.main", *add], check=True, capture_output=True, cwd=ROOT, env=environ)
        yield running


@pytest.fixture(scope="session")
def new_client(server: Shardgate) -> Callable[..., S3Client]:
    """Make a boto3 client; keyword arguments go to botocore's Config."""

    def make(*, access_key: str = server.access_key, secret_key: str = server.secret_key, **options: object) -> S3Client:
        settings: dict[str, object] = {"s3": {"addressing_style": "path"}, "max_pool_connections": 32}
        return server.client(access_key=access_key, secret_key=secret_key, **(settings | options))

    return make


@pytest.fixture(scope="session")
def s3(new_client: Callable[..., S3Client]) -> S3Client:
    return new_client()


@pytest.fixture(scope="session")
def plain_s3(new_client: Callable[..., S3Client]) -> S3Client:
    """A client that adds no checksum of its own."""
    return new_client(request_checksum_calculation="when_required", response_checksum_validation="when_required")


@pytest.fixture(scope="session")
def other_s3(new_client: Callable[..., S3Client]) -> S3Client:
    """A second tenant."""
    return new_client(access_key=OTHER_ACCESS_KEY, secret_key=OTHER_SECRET_KEY)


@pytest.fixture(scope="session")
def signer(server: Shardgate) -> Signer:
    return Signer(server.access_key, server.secret_key, host=f"127.0.0.1:{server.port}")


@pytest.fixture
def raw(server: Shardgate, signer: Signer) -> RawClient:
    return RawClient("127.0.0.1", server.port, signer)


@pytest.fixture
def new_bucket(s3: S3Client) -> Callable[[], str]:
    def make() -> str:
        name = f"test-{uuid.uuid4()}"
        s3.create_bucket(Bucket=name)
        return name

    return make


@pytest.fixture
def bucket(new_bucket: Callable[[], str]) -> str:
    return new_bucket()


@pytest.fixture
def versioned(bucket: str, s3: S3Client) -> str:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return bucket


@pytest.fixture(scope="session")
def stranger(server: Shardgate) -> S3Client:
    """Nobody in particular."""
    config = Config(signature_version=UNSIGNED, s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})
    return boto3.client("s3", endpoint_url=server.endpoint, region_name="us-east-1", config=config)


@pytest.fixture
def with_acls(s3: S3Client) -> NewBucket:
    """Make a bucket that has ACLs, and whose public access nobody blocks."""

    def make(ownership: str = "ObjectWriter") -> str:
        name = f"acl-{uuid.uuid4()}"
        s3.create_bucket(Bucket=name, ObjectOwnership=ownership)  # type: ignore[arg-type]
        s3.delete_public_access_block(Bucket=name)
        return name

    return make


@pytest.fixture(scope="session")
def me(s3: S3Client) -> str:
    return s3.list_buckets()["Owner"]["ID"]


@pytest.fixture(scope="session")
def other(other_s3: S3Client) -> str:
    return other_s3.list_buckets()["Owner"]["ID"]
