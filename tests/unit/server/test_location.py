"""Where a completed upload is said to be."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from proxy.server.call import Call
from proxy.server.handlers.multipart import object_address


@pytest.mark.parametrize(
    ("host", "public_url", "tls", "expected"),
    [
        ("s3.test:9000", "", None, "http://s3.test:9000/b/a%20key"),
        ("b.s3.test:9000", "", None, "http://b.s3.test:9000/a%20key"),
        ("s3.test", "", object(), "https://s3.test/b/a%20key"),
        ("127.0.0.1:9000", "https://s3.test", None, "https://s3.test/b/a%20key"),
        ("b.s3.test", "https://s3.test", None, "https://b.s3.test/a%20key"),
    ],
)
def test_an_object_s_address_is_the_one_that_clients_can_reach(host: str, public_url: str, tls: object, expected: str) -> None:
    config = SimpleNamespace(bucket_domains=("s3.test",), public_url=public_url, tls=tls)
    call = SimpleNamespace(headers={"host": host}, services=SimpleNamespace(config=config), bucket=SimpleNamespace(name="b"), key="a key")
    assert object_address(cast(Call, call)) == expected
