"""Buckets as websites: what a browser gets, which knows no S3 and has no keys."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.blackbox.conftest import WEBSITE_DOMAIN
from tests.blackbox.expect import s3_error
from tests.blackbox.raw import RawAnswer, RawClient
from tests.blackbox.test_cors import ORIGIN, RULE, put_rules

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

SITE = {"IndexDocument": {"Suffix": "index.html"}, "ErrorDocument": {"Key": "error.html"}}
Get = Callable[..., RawAnswer]


@pytest.fixture
def public_bucket(s3: S3Client) -> str:
    """A bucket whose objects may be public one by one."""
    name = f"site-{uuid.uuid4()}"
    s3.create_bucket(Bucket=name, ObjectOwnership="ObjectWriter")
    s3.delete_public_access_block(Bucket=name)
    return name


@pytest.fixture
def site(s3: S3Client, public_bucket: str) -> str:
    """A website with some pages and a private one."""
    put_site(s3, public_bucket, SITE)
    pages = {"index.html": "home", "error.html": "sorry", "docs/index.html": "documents", "docs/a b.html": "a b", "style.css": "css"}
    for key, text in pages.items():
        s3.put_object(Bucket=public_bucket, Key=key, Body=text.encode(), ContentType="text/html", ACL="public-read")
    s3.put_object(Bucket=public_bucket, Key="private.html", Body=b"secret")
    return public_bucket


@pytest.fixture
def get(raw: RawClient, site: str) -> Get:
    def ask(path: str, method: str = "GET", **headers: str) -> RawAnswer:
        return raw.send(
            method,
            quote(path, safe="/?=%"),
            (),
            {"host": host_of(site), **{name.replace("_", "-"): text for name, text in headers.items()}},
        )

    return ask


def host_of(bucket: str) -> str:
    return f"{bucket}.{WEBSITE_DOMAIN}"


def put_site(s3: S3Client, bucket: str, configuration: object) -> None:
    s3.put_bucket_website(Bucket=bucket, WebsiteConfiguration=configuration)  # type: ignore[arg-type]


def told(answer: RawAnswer) -> tuple[int, str]:
    """Status, and the error's code as the headers have it."""
    return answer.status, answer.headers.get("x-amz-error-code", "")


@pytest.mark.parametrize(
    "configuration",
    [
        SITE,
        {"RedirectAllRequestsTo": {"HostName": "x.test", "Protocol": "https"}},
        {
            "IndexDocument": {"Suffix": "i"},
            "RoutingRules": [
                {"Condition": {"KeyPrefixEquals": "a/"}, "Redirect": {"ReplaceKeyPrefixWith": "b/"}},
                {"Condition": {"HttpErrorCodeReturnedEquals": "404"}, "Redirect": {"HostName": "x.test", "HttpRedirectCode": "302"}},
            ],
        },
    ],
)
def test_a_configuration_is_kept_as_it_was_put_and_removed(s3: S3Client, bucket: str, configuration: dict[str, object]) -> None:
    put_site(s3, bucket, configuration)
    answer = s3.get_bucket_website(Bucket=bucket)
    assert {name: value for name, value in answer.items() if name != "ResponseMetadata"} == configuration
    for _ in range(2):
        assert s3.delete_bucket_website(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 204
    with s3_error("NoSuchWebsiteConfiguration", 404):
        s3.get_bucket_website(Bucket=bucket)


def test_a_configuration_that_is_refused_leaves_the_old_one(s3: S3Client, bucket: str) -> None:
    put_site(s3, bucket, SITE)
    with s3_error("InvalidArgument", 400):
        put_site(s3, bucket, {"IndexDocument": {"Suffix": "a/b"}})
    with s3_error("InvalidRequest", 400):
        put_site(s3, bucket, {"IndexDocument": {"Suffix": "a"}, "RoutingRules": [{"Redirect": {"HttpRedirectCode": "200"}}]})
    assert s3.get_bucket_website(Bucket=bucket)["ErrorDocument"] == {"Key": "error.html"}


def test_pages_are_found_by_their_names_and_folders_by_their_index(get: Get) -> None:
    for path, text in (("/", b"home"), ("/index.html", b"home"), ("/docs/", b"documents"), ("/docs/a b.html", b"a b"), ("/?a=b", b"home")):
        answer = get(path)
        assert (answer.status, answer.body, answer.headers["content-type"]) == (200, text, "text/html")
    head = get("/docs/", "HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "9")


def test_a_folder_without_its_slash_is_sent_to_it(get: Get) -> None:
    answer = get("/docs")
    assert (answer.status, answer.headers["location"]) == (302, "/docs/")


def test_what_is_missing_is_answered_by_the_sites_own_page(get: Get) -> None:
    for path in ("/none", "/none/", "/docs/none.html"):
        answer = get(path)
        assert (told(answer), answer.body) == ((404, "NoSuchKey"), b"sorry")
        assert answer.headers["content-type"] == "text/html"
    assert (get("/none", "HEAD").status, get("/none", "HEAD").body) == (404, b"")


def test_a_site_made_public_by_a_policy_tells_what_is_missing(s3: S3Client, site: str, get: Get) -> None:
    everybody_reads = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{site}/*"}
    s3.put_bucket_policy(Bucket=site, Policy=json.dumps({"Version": "2012-10-17", "Statement": [everybody_reads]}))
    assert told(get("/private.html")) == (200, "")
    assert (told(get("/none")), get("/none").body) == ((404, "NoSuchKey"), b"sorry")
    assert get("/none", "HEAD").status == 404
    folder = get("/docs")
    assert (folder.status, folder.headers["location"]) == (302, "/docs/")


def test_what_is_not_public_is_forbidden(get: Get) -> None:
    answer = get("/private.html")
    assert (told(answer), answer.body) == ((403, "AccessDenied"), b"sorry")


def test_without_a_page_of_its_own_a_site_tells_of_errors_in_html(s3: S3Client, site: str, get: Get) -> None:
    put_site(s3, site, {"IndexDocument": {"Suffix": "index.html"}})
    answer = get("/<none>")
    assert told(answer) == (404, "NoSuchKey")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert b"<h1>404 Not Found</h1>" in answer.body
    assert b"<li>Key: &lt;none&gt;</li>" in answer.body
    put_site(s3, site, SITE | {"ErrorDocument": {"Key": "private.html"}})
    answer = get("/none")
    assert told(answer) == (404, "NoSuchKey")
    assert b"Attempting to Retrieve a Custom Error Document" in answer.body
    assert b"<li>Code: AccessDenied</li>" in answer.body
    assert b"secret" not in answer.body


def test_conditions_and_ranges_hold_for_pages(get: Get) -> None:
    etag = get("/style.css").headers["etag"]
    fresh = get("/style.css", if_none_match=etag)
    assert (fresh.status, fresh.body, fresh.headers["etag"]) == (304, b"", etag)
    assert told(get("/style.css", if_match='"other"')) == (412, "PreconditionFailed")
    part = get("/style.css", range="bytes=1-")
    assert (part.status, part.body) == (206, b"ss")
    assert get("/none", if_none_match="*", range="bytes=0-0").body == b"sorry"


def test_all_requests_may_be_sent_to_another_host(s3: S3Client, site: str, get: Get) -> None:
    put_site(s3, site, {"RedirectAllRequestsTo": {"HostName": "x.test"}})
    answer = get("/docs/a%20b?c=d")
    assert (answer.status, answer.headers["location"]) == (301, "http://x.test/docs/a%20b?c=d")
    put_site(s3, site, {"RedirectAllRequestsTo": {"HostName": "x.test", "Protocol": "https"}})
    assert get("/").headers["location"] == "https://x.test/"


def test_routing_rules_send_requests_and_failures_elsewhere(s3: S3Client, site: str, get: Get) -> None:
    rules = [
        {"Condition": {"KeyPrefixEquals": "old/"}, "Redirect": {"ReplaceKeyPrefixWith": "docs/"}},
        {
            "Condition": {"HttpErrorCodeReturnedEquals": "404"},
            "Redirect": {"HostName": "x.test", "HttpRedirectCode": "302", "ReplaceKeyWith": "gone"},
        },
        {"Condition": {"HttpErrorCodeReturnedEquals": "403", "KeyPrefixEquals": "private"}, "Redirect": {"Protocol": "https"}},
    ]
    put_site(s3, site, SITE | {"RoutingRules": rules})
    answers = [get("/old/a b.html"), get("/none"), get("/private.html"), get("/docs")]
    assert [(answer.status, answer.headers["location"]) for answer in answers] == [
        (301, f"http://{host_of(site)}/docs/a%20b.html"),
        (302, "http://x.test/gone"),
        (301, f"https://{host_of(site)}/private.html"),
        (302, "/docs/"),
    ]
    assert get("/docs/").body == b"documents"


def test_an_object_may_send_its_visitors_elsewhere(s3: S3Client, site: str, get: Get, raw: RawClient) -> None:
    s3.put_object(Bucket=site, Key="moved", Body=b"x" * 200_000, WebsiteRedirectLocation="/docs/", ACL="public-read")
    answer = get("/moved")
    assert (answer.status, answer.headers["location"], answer.body) == (301, "/docs/", b"")
    assert raw.send("GET", f"/{site}/moved").status == 200  # only the website does


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_a_website_is_only_read(get: Get, s3: S3Client, site: str, method: str) -> None:
    answer = get("/index.html", method)
    assert told(answer) == (405, "MethodNotAllowed")
    assert answer.headers["allow"] == "GET, HEAD"
    assert s3.get_object(Bucket=site, Key="index.html")["Body"].read() == b"home"


def test_a_signature_opens_no_more_of_a_website(raw: RawClient, site: str) -> None:
    signed = raw.signer.sign("GET", "/private.html", (), {"host": host_of(site)}).headers
    assert raw.send("GET", "/private.html", (), signed).status == 403


def test_a_bucket_that_is_no_website_or_not_there_has_no_pages(raw: RawClient, public_bucket: str) -> None:
    for bucket, code in ((public_bucket, "NoSuchWebsiteConfiguration"), ("no-such-bucket-here", "NoSuchBucket")):
        answer = raw.send("GET", "/", (), {"host": host_of(bucket)})
        assert told(answer) == (404, code)
        assert f"<li>BucketName: {bucket}</li>".encode() in answer.body
    assert raw.send("GET", "/", (), {"host": WEBSITE_DOMAIN}).verdict == (400, "InvalidRequest")


def test_scripts_of_other_origins_may_read_pages_by_the_buckets_rules(s3: S3Client, site: str, get: Get) -> None:
    put_rules(s3, site, RULE)
    for path in ("/", "/none", "/private.html"):
        assert get(path, origin=ORIGIN).headers["access-control-allow-origin"] == ORIGIN
    assert get("/", "OPTIONS", origin=ORIGIN, access_control_request_method="GET").status == 200


def test_awkward_addresses_are_no_failure_of_ours(get: Get, s3: S3Client, site: str) -> None:
    for path in ("/%zz", "/%ff", "//", "/../a", "/" + "k" * 2000, "/a%0d%0aLocation:%20b", "/%00"):
        assert get(path).status in {400, 404}
    put_site(s3, site, {"RedirectAllRequestsTo": {"HostName": "x.test"}})
    assert get("/a%0d%0ab").headers["location"] == "http://x.test/a%0d%0ab"


def test_a_large_page_is_streamed(s3: S3Client, site: str, get: Get) -> None:
    body = b"0123456789" * 300_000
    s3.put_object(Bucket=site, Key="large", Body=body, ACL="public-read")
    assert get("/large").body == body


# Who pays


def test_a_bucket_says_who_pays_for_requests(s3: S3Client, bucket: str) -> None:
    assert s3.get_bucket_request_payment(Bucket=bucket)["Payer"] == "BucketOwner"
    s3.put_bucket_request_payment(Bucket=bucket, RequestPaymentConfiguration={"Payer": "Requester"})
    assert s3.get_bucket_request_payment(Bucket=bucket)["Payer"] == "Requester"
    with s3_error("MalformedXML", 400):
        s3.put_bucket_request_payment(Bucket=bucket, RequestPaymentConfiguration={"Payer": "Nobody"})  # type: ignore[typeddict-item]
    s3.put_bucket_request_payment(Bucket=bucket, RequestPaymentConfiguration={"Payer": "BucketOwner"})
    assert s3.get_bucket_request_payment(Bucket=bucket)["Payer"] == "BucketOwner"


def test_where_the_requester_pays_others_must_agree_and_strangers_cannot(
    s3: S3Client, other_s3: S3Client, site: str, get: Get, raw: RawClient
) -> None:
    assert other_s3.get_object(Bucket=site, Key="style.css")["Body"].read() == b"css"
    assert raw.send("GET", f"/{site}/style.css").status == 200
    s3.put_bucket_request_payment(Bucket=site, RequestPaymentConfiguration={"Payer": "Requester"})
    with s3_error("AccessDenied", 403):
        other_s3.get_object(Bucket=site, Key="style.css")
    answer = other_s3.get_object(Bucket=site, Key="style.css", RequestPayer="requester")
    assert (answer["Body"].read(), answer["RequestCharged"]) == (b"css", "requester")
    url = other_s3.generate_presigned_url("get_object", Params={"Bucket": site, "Key": "style.css", "RequestPayer": "requester"})
    path, _, query = url.partition("/")[2].partition("/")[2].partition("/")[2].partition("?")
    assert raw.send("GET", f"/{path}?{query}").status == 200
    assert raw.send("GET", f"/{site}/style.css").verdict == (403, "AccessDenied")
    assert get("/style.css").status == 403
    assert "RequestCharged" not in s3.get_object(Bucket=site, Key="style.css")
