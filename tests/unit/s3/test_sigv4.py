"""SigV4: what botocore signs and what AWS publishes verifies; anything else does not."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from proxy.s3 import sigv4
from proxy.s3.claim import Claim, parse_authorization
from proxy.s3.errors import S3Error

from .docs import ACCESS_KEY, DOCS_HOST, DOCS_NOW_MS, DOCS_PRESIGNED, EMPTY_SHA256, SECRET, docs_headers

AWKWARD_KEYS = [
    "plain",
    "a space",
    "plus+sign",
    "double//slash",
    "/leading",
    "trailing/",
    "per%cent",
    "%41 looks encoded",
    "emoji \N{GRINNING FACE}",
    "../up/../../and/./away",
    "tilde~dash-dot._",
    "brackets[](){}<>",
    "quotes'\"`",
    "&=?#;:@,$!*|\\^",
    "é combining e\u0301",
    "\x01control\x7f",
    "k" * 1024,
]
AWKWARD_QUERIES: list[list[tuple[str, str]]] = [
    [],
    [("acl", "")],
    [("delimiter", "/"), ("list-type", "2"), ("prefix", "a b+c%/é")],
    [("a", "2"), ("a", "1"), ("a", "")],
    [("uploads", ""), ("z", "="), ("A", "&")],
    [("prefix", "\N{GRINNING FACE}")],
    [("a-b", "1"), ("a", "2"), ("a.b", "3")],
]


def key_of(claim: Claim) -> bytes:
    return sigv4.signing_key(SECRET, claim.date, claim.region)


def signed(
    method: str,
    key: str,
    query: list[tuple[str, str]],
    headers: Mapping[str, str] | None = None,
    *,
    presigned: bool = False,
    token: str | None = None,
) -> tuple[str, list[tuple[str, str]], dict[str, str]]:
    """Sign with botocore; return what a server sees: raw path, decoded query, lower-case headers."""
    url = "http://localhost:9000/bucket/" + quote(key, safe="/~")
    if query:
        url += "?" + "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in query)
    request = AWSRequest(method=method, url=url, headers=dict(headers or {}), data=b"body" if method == "PUT" and not presigned else b"")
    credentials = Credentials(ACCESS_KEY, SECRET, token)
    signer = S3SigV4QueryAuth(credentials, "s3", "eu-west-1", expires=60) if presigned else S3SigV4Auth(credentials, "s3", "eu-west-1")
    signer.add_auth(request)
    prepared = request.prepare()
    parts = urlsplit(prepared.url)
    seen = {"host": "localhost:9000"}
    for name, value in prepared.headers.items():
        seen[name.lower()] = value.decode() if isinstance(value, bytes) else value
    return parts.path, parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)), seen


def check(method: str, raw_path: str, query: list[tuple[str, str]], headers: Mapping[str, str], now_ms: int | None = None) -> Claim:
    claim = parse_authorization(headers, query)
    assert claim is not None
    sigv4.check_time(claim, now_ms if now_ms is not None else int(datetime.now(UTC).timestamp() * 1000))
    sigv4.verify(claim, key_of(claim), method=method, raw_path=raw_path, query=query, headers=headers)
    return claim


def refused(code: str, method: str, raw_path: str, query: list[tuple[str, str]], headers: Mapping[str, str], **kwargs: int) -> S3Error:
    with pytest.raises(S3Error) as caught:
        check(method, raw_path, query, headers, **kwargs)
    assert caught.value.code == code
    return caught.value


# --- botocore's signatures


@pytest.mark.parametrize("key", AWKWARD_KEYS)
@pytest.mark.parametrize("presigned", [False, True])
def test_awkward_keys_verify(key: str, presigned: bool) -> None:
    claim = check("GET", *signed("GET", key, [], presigned=presigned))

    assert (claim.access_key, claim.region, claim.presigned) == (ACCESS_KEY, "eu-west-1", presigned)


@pytest.mark.parametrize("query", AWKWARD_QUERIES)
@pytest.mark.parametrize("presigned", [False, True])
def test_awkward_queries_verify(query: list[tuple[str, str]], presigned: bool) -> None:
    check("GET", *signed("GET", "key", query, presigned=presigned))


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
# X-Amz-* parameters beside an Authorization header make a request with two claims, which is refused.
NAMES = TEXT.filter(lambda name: name and not name.startswith("X-Amz-"))


@given(key=TEXT.filter(bool), query=st.lists(st.tuples(NAMES, TEXT)))
def test_any_key_and_query_verify(key: str, query: list[tuple[str, str]]) -> None:
    check("GET", *signed("GET", key, query))


def test_put_with_body_hash_and_metadata_verifies() -> None:
    claim = check("PUT", *signed("PUT", "key", [], {"x-amz-meta-note": "  two   spaces  and\ta tab ", "Content-Type": "text/plain"}))

    assert claim.payload_hash == "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5"


def test_path_left_unescaped_by_the_client_verifies() -> None:
    _, query, headers = signed("GET", "a+b (c)!", [])

    check("GET", "/bucket/a+b%20(c)!", query, headers)


# --- AWS's published examples


def test_aws_example_get_object() -> None:
    headers = docs_headers(
        "host;range;x-amz-content-sha256;x-amz-date",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        range="bytes=0-9",
    )

    check("GET", "/test.txt", [], headers, DOCS_NOW_MS)


def test_aws_example_put_object() -> None:
    headers = docs_headers(
        "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        date="Fri, 24 May 2013 00:00:00 GMT",
        x_amz_storage_class="REDUCED_REDUNDANCY",
        x_amz_content_sha256="44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
    )

    check("PUT", "/test%24file.text", [], headers, DOCS_NOW_MS)
    check("PUT", "/test$file.text", [], headers, DOCS_NOW_MS)


def test_aws_example_get_bucket_lifecycle() -> None:
    headers = docs_headers("host;x-amz-content-sha256;x-amz-date", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543")

    check("GET", "/", [("lifecycle", "")], headers, DOCS_NOW_MS)


def test_aws_example_list_objects() -> None:
    headers = docs_headers("host;x-amz-content-sha256;x-amz-date", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7")

    check("GET", "/", [("max-keys", "2"), ("prefix", "J")], headers, DOCS_NOW_MS)


def test_aws_example_presigned_get() -> None:
    claim = check("GET", "/test.txt", DOCS_PRESIGNED, {"host": DOCS_HOST}, DOCS_NOW_MS)

    assert (claim.presigned, claim.expires_seconds, claim.payload_hash) == (True, 86400, "UNSIGNED-PAYLOAD")


def test_seed_of_aws_example_chunked_put() -> None:
    headers = docs_headers(
        "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class",
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
        host="s3.amazonaws.com",
        content_encoding="aws-chunked",
        content_length="66824",
        x_amz_content_sha256="STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        x_amz_decoded_content_length="66560",
        x_amz_storage_class="REDUCED_REDUNDANCY",
    )

    check("PUT", "/examplebucket/chunkObject.txt", [], headers, DOCS_NOW_MS)


# --- forgeries


def test_any_change_is_refused() -> None:
    path, query, headers = signed("PUT", "key", [("a", "1")], {"x-amz-meta-a": "1"})

    refused("SignatureDoesNotMatch", "GET", path, query, headers)
    refused("SignatureDoesNotMatch", "PUT", path + "x", query, headers)
    refused("SignatureDoesNotMatch", "PUT", path, [*query, ("acl", "")], headers)
    refused("SignatureDoesNotMatch", "PUT", path, query, headers | {"x-amz-meta-a": "2"})
    refused("SignatureDoesNotMatch", "PUT", path, query, headers | {"x-amz-content-sha256": EMPTY_SHA256})
    refused("SignatureDoesNotMatch", "PUT", path, query, headers | {"host": "elsewhere"})


def test_another_secret_is_refused_with_the_facts() -> None:
    path, query, headers = signed("GET", "key", [])
    claim = parse_authorization(headers, query)
    assert claim is not None
    key = sigv4.signing_key("other", claim.date, claim.region)

    with pytest.raises(S3Error) as caught:
        sigv4.verify(claim, key, method="GET", raw_path=path, query=query, headers=headers)

    details = caught.value.details
    assert details["AWSAccessKeyId"] == ACCESS_KEY
    assert details["SignatureProvided"] == claim.signature
    assert str(details["StringToSign"]).startswith("AWS4-HMAC-SHA256\n")
    assert str(details["CanonicalRequest"]).startswith("GET\n/bucket/key\n\nhost:localhost:9000\n")


@pytest.mark.parametrize("presigned", [False, True])
def test_unsigned_amz_header_is_refused(presigned: bool) -> None:
    path, query, headers = signed("PUT", "key", [], presigned=presigned)

    error = refused("AccessDenied", "PUT", path, query, headers | {"x-amz-acl": "public-read"})

    assert error.details["HeadersNotSigned"] == "x-amz-acl"


def test_payload_hash_header_is_signed_by_its_place() -> None:
    path, query, headers = signed("PUT", "key", [], presigned=True)

    check("PUT", path, query, headers | {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"})
    refused("SignatureDoesNotMatch", "PUT", path, query, headers | {"x-amz-content-sha256": EMPTY_SHA256})


def test_payload_hash_header_beside_that_of_the_query_must_be_the_same() -> None:
    path, query, headers = signed("PUT", "key", [("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")], presigned=True)

    check("PUT", path, query, headers | {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"})
    error = refused("AccessDenied", "PUT", path, query, headers | {"x-amz-content-sha256": EMPTY_SHA256})
    assert error.details["HeadersNotSigned"] == "x-amz-content-sha256"


def test_unsigned_host_is_refused() -> None:
    path, query, headers = signed("GET", "key", [])
    headers["authorization"] = headers["authorization"].replace("SignedHeaders=host;", "SignedHeaders=")

    refused("AccessDenied", "GET", path, query, headers)


@pytest.mark.parametrize("presigned", [False, True])
def test_a_session_token_is_signed_with_the_rest(presigned: bool) -> None:
    path, query, headers = signed("GET", "key", [], presigned=presigned, token="session")
    check("GET", path, query, headers)
    other = {**headers, "x-amz-security-token": "another"}
    changed = [(name, "another" if name == "X-Amz-Security-Token" else value) for name, value in query]
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        check("GET", path, changed, headers if presigned else other)


# --- time


@pytest.mark.parametrize("seconds", [-900, 0, 900])
def test_clocks_may_differ_by_fifteen_minutes(seconds: int) -> None:
    headers = docs_headers("host;x-amz-content-sha256;x-amz-date", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543")

    check("GET", "/", [("lifecycle", "")], headers, DOCS_NOW_MS + seconds * 1000)


@pytest.mark.parametrize("seconds", [-901, 901, 10**9])
def test_clocks_further_apart_are_refused(seconds: int) -> None:
    headers = docs_headers("host;x-amz-content-sha256;x-amz-date", "0" * 64)

    error = refused("RequestTimeTooSkewed", "GET", "/", [], headers, now_ms=DOCS_NOW_MS + seconds * 1000)

    assert error.details["MaxAllowedSkewMilliseconds"] == 900_000


@pytest.mark.parametrize(("seconds", "message"), [(86_401, "Request has expired"), (-901, "Request is not yet valid")])
def test_presigned_url_has_a_life(seconds: int, message: str) -> None:
    check("GET", "/test.txt", DOCS_PRESIGNED, {"host": DOCS_HOST}, DOCS_NOW_MS + 86_400_000)

    error = refused("AccessDenied", "GET", "/test.txt", DOCS_PRESIGNED, {"host": DOCS_HOST}, now_ms=DOCS_NOW_MS + seconds * 1000)

    assert error.message == message


@pytest.mark.parametrize("expires", ["0", "-1", "604801", "1e3", "", "²", "9" * 5000])
def test_impossible_lives_are_refused(expires: str) -> None:
    query = [(name, expires if name == "X-Amz-Expires" else value) for name, value in DOCS_PRESIGNED]

    refused("AuthorizationQueryParametersError", "GET", "/test.txt", query, {"host": DOCS_HOST}, now_ms=DOCS_NOW_MS)


def test_another_region_is_refused_naming_the_right_one() -> None:
    claim = parse_authorization(docs_headers("host", "0" * 64), [])
    assert claim is not None
    sigv4.check_region(claim, "us-east-1")

    with pytest.raises(S3Error) as caught:
        sigv4.check_region(claim, "eu-central-1")

    assert (caught.value.code, caught.value.details["Region"]) == ("AuthorizationHeaderMalformed", "eu-central-1")
