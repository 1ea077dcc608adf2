"""Hosts: which are ours, and which name a bucket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.s3.errors import S3Error
from proxy.s3.hosts import Hosts, bucket_of_host

NAMES = ("localhost", "Machine.Example.ORG", "0.0.0.0")


@pytest.mark.parametrize(
    ("host", "bucket"),
    [
        ("b.s3.example", "b"),
        ("B.S3.Example:9000", "b"),
        ("b.s3.example.", "b"),
        ("a.b.s3.example", "a.b"),
        ("b.example", "b"),
        ("b.s3.example:", "b"),
        ("s3.example", None),
        ("S3.EXAMPLE.:443", None),
        ("example", None),
        ("localhost", None),
        ("LOCALHOST:9000", None),
        ("machine.example.org", None),
        ("127.0.0.1", None),
        ("127.0.0.1:9000", None),
        ("203.0.113.9", None),
        ("[::1]:9000", None),
        ("[2001:DB8::1]", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("domains", [("example", "s3.example"), ("S3.Example", "Example")])
def test_a_host_of_ours_may_name_a_bucket(host: str, bucket: str | None, domains: tuple[str, ...]) -> None:
    assert Hosts(NAMES, domains).bucket(host) == bucket


@pytest.mark.parametrize(
    "host",
    [
        "bucket.localhost:9000",
        "bucket.127.0.0.1",
        "bucket.machine.example.org",
        ".s3.test",
        "nots3.test",
        "s3.test.evil",
        "other",
        "127.1",
        "[::1",
        "[bucket]",
        "localhost,localhost",
        "localhost:90:90",
        "a b",
        "x" * 300,
    ],
)
def test_a_host_that_is_not_ours_is_refused_with_a_hint(host: str) -> None:
    with pytest.raises(S3Error) as caught:
        Hosts(NAMES, ("s3.test",)).bucket(host)
    assert (caught.value.code, caught.value.status) == ("InvalidRequest", 400)
    assert len(host) == 300 or "path-style" in caught.value.message


def test_where_localhost_is_a_domain_what_stands_before_it_is_a_bucket() -> None:
    hosts = Hosts(("localhost",), ("localhost",))
    assert (hosts.bucket("bucket.localhost:9000"), hosts.bucket("localhost:9000"), hosts.bucket("127.0.0.1")) == ("bucket", None, None)


@given(st.text())
def test_any_host_is_understood_or_refused(host: str) -> None:
    try:
        bucket = Hosts(NAMES, ("example",)).bucket(host)
    except S3Error as error:
        assert error.code == "InvalidRequest"
    else:
        assert bucket == bucket_of_host(host, ("example",))
        assert bucket != ""


def test_an_accelerated_name_is_a_buckets_and_nobody_elses() -> None:
    hosts = Hosts(NAMES, ("s3.test", "s3.fast.test"), ("Fast.test",))
    for host in ("b.fast.test", "B.FAST.test:9000", "b.fast.test."):
        assert (hosts.bucket(host), hosts.accelerates(host)) == ("b", True)
    for host in ("b.s3.test", "b.s3.fast.test"):
        assert (hosts.bucket(host), hosts.accelerates(host)) == ("b", False)
    assert hosts.bucket("s3.fast.test") is None
    assert not hosts.accelerates("s3.fast.test")
    with pytest.raises(S3Error, match="only supports virtual style requests"):
        hosts.bucket("fast.test:443")
