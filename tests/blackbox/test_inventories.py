"""Inventory configurations, as a client puts and reads them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.blackbox.expect import s3_error

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


def configuration(name: str, destination: str, form: str = "CSV") -> dict:
    return {
        "Id": name,
        "IsEnabled": True,
        "IncludedObjectVersions": "Current",
        "Schedule": {"Frequency": "Weekly"},
        "Destination": {"S3BucketDestination": {"Bucket": f"arn:aws:s3:::{destination}", "Format": form}},
        "OptionalFields": ["Size", "ETag"],
    }


@pytest.mark.parametrize("form", ["CSV", "Parquet"])
def test_a_configuration_comes_back_is_listed_and_goes(s3: S3Client, bucket: str, form: str) -> None:
    wanted = configuration("weekly", bucket, form)
    s3.put_bucket_inventory_configuration(Bucket=bucket, Id="weekly", InventoryConfiguration=wanted)
    assert s3.get_bucket_inventory_configuration(Bucket=bucket, Id="weekly")["InventoryConfiguration"] == wanted
    assert s3.list_bucket_inventory_configurations(Bucket=bucket)["InventoryConfigurationList"] == [wanted]
    s3.delete_bucket_inventory_configuration(Bucket=bucket, Id="weekly")
    assert "InventoryConfigurationList" not in s3.list_bucket_inventory_configurations(Bucket=bucket)
    with s3_error("NoSuchConfiguration", 404):
        s3.get_bucket_inventory_configuration(Bucket=bucket, Id="weekly")


def test_a_hundred_and_no_more(s3: S3Client, bucket: str) -> None:
    names = [f"n{n:03}" for n in range(100)]
    for name in names:
        s3.put_bucket_inventory_configuration(Bucket=bucket, Id=name, InventoryConfiguration=configuration(name, bucket))
    with s3_error("TooManyConfigurations", 400):
        s3.put_bucket_inventory_configuration(Bucket=bucket, Id="more", InventoryConfiguration=configuration("more", bucket))
    page = s3.list_bucket_inventory_configurations(Bucket=bucket)
    assert ([entry["Id"] for entry in page["InventoryConfigurationList"]], page["IsTruncated"]) == (names, False)


def test_configurations_that_come_at_once_are_all_kept(s3: S3Client, new_client: Callable[..., S3Client], bucket: str) -> None:
    names = [f"n{n:02}" for n in range(12)]
    clients = [new_client(max_pool_connections=1) for _ in range(4)]

    def put(at: int) -> None:
        wanted = configuration(names[at], bucket)
        clients[at % 4].put_bucket_inventory_configuration(Bucket=bucket, Id=names[at], InventoryConfiguration=wanted)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, range(12)))
    found = s3.list_bucket_inventory_configurations(Bucket=bucket)["InventoryConfigurationList"]
    assert [entry["Id"] for entry in found] == names


def test_a_destination_of_another_owner_is_refused(s3: S3Client, other_s3: S3Client, bucket: str) -> None:
    foreign = f"lists-{bucket}"[:63]
    other_s3.create_bucket(Bucket=foreign)
    with s3_error("InvalidS3DestinationBucket", 400):
        s3.put_bucket_inventory_configuration(Bucket=bucket, Id="x", InventoryConfiguration=configuration("x", foreign))


def test_an_id_that_is_not_the_requests_is_refused(s3: S3Client, bucket: str) -> None:
    with s3_error("InvalidArgument", 400):
        s3.put_bucket_inventory_configuration(Bucket=bucket, Id="a", InventoryConfiguration=configuration("b", bucket))
