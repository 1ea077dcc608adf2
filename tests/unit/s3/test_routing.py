"""Routing: every request line of the model finds its operation, and none finds another's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.s3.errors import S3Error
from proxy.s3.routing import Router, Target, split_target

from .samples import MODEL, OPERATIONS

ROUTER = Router(MODEL)
BUCKET = Target("bucket", None)
OBJECT = Target("bucket", "key")
TARGETS = {"service": Target(None, None), "bucket": BUCKET, "object": OBJECT}


def route(method: str, target: Target, *query: tuple[str, str], copy: bool = False) -> str:
    headers = {"x-amz-copy-source": "/other/key"} if copy else {}
    return ROUTER.route(method, target, query, headers).name


def refusal(method: str, target: Target, *query: tuple[str, str]) -> S3Error:
    with pytest.raises(S3Error) as caught:
        route(method, target, *query)
    return caught.value


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_is_found_by_its_request_line(name: str) -> None:
    operation = MODEL.operations[name]
    query = [*operation.literals.items(), *((required, "1") for required in operation.required_query)]
    target = TARGETS[operation.level]
    copy = name in {"CopyObject", "UploadPartCopy"}

    assert route(operation.method, target, *query, copy=copy) == name
    assert route(operation.method, target, *reversed(query), ("x-id", name), ("unheard-of", ""), copy=copy) == name


@pytest.mark.parametrize(
    ("method", "target", "query", "name"),
    [
        ("GET", BUCKET, [("prefix", "acl"), ("delimiter", "/")], "ListObjects"),
        ("GET", BUCKET, [("list-type", "1")], "ListObjects"),
        ("GET", BUCKET, [("list-type", "2"), ("prefix", "p")], "ListObjectsV2"),
        ("GET", BUCKET, [("acl", "")], "GetBucketAcl"),
        ("GET", BUCKET, [("acl", "anything")], "GetBucketAcl"),
        ("GET", BUCKET, [("inventory", "")], "ListBucketInventoryConfigurations"),
        ("GET", BUCKET, [("inventory", ""), ("id", "i")], "GetBucketInventoryConfiguration"),
        ("GET", BUCKET, [("lifecycle", "")], "GetBucketLifecycleConfiguration"),
        ("GET", BUCKET, [("session", "")], "CreateSession"),
        ("GET", OBJECT, [("versionId", "v")], "GetObject"),
        ("GET", OBJECT, [("partNumber", "1")], "GetObject"),
        ("GET", OBJECT, [("uploadId", "u"), ("max-parts", "1")], "ListParts"),
        ("GET", OBJECT, [("response-content-type", "a/b")], "GetObject"),
        ("DELETE", OBJECT, [("versionId", "v")], "DeleteObject"),
        ("DELETE", OBJECT, [("uploadId", "u")], "AbortMultipartUpload"),
        ("PUT", OBJECT, [("partNumber", "1"), ("uploadId", "u")], "UploadPart"),
        ("PUT", OBJECT, [("tagging", ""), ("versionId", "v")], "PutObjectTagging"),
        ("POST", OBJECT, [("uploads", "")], "CreateMultipartUpload"),
        ("POST", OBJECT, [("uploadId", "u")], "CompleteMultipartUpload"),
        ("HEAD", OBJECT, [("versionId", "v"), ("partNumber", "1")], "HeadObject"),
    ],
)
def test_queries_choose_the_operation(method: str, target: Target, query: list[tuple[str, str]], name: str) -> None:
    assert route(method, target, *query) == name


@pytest.mark.parametrize("name", ["start-after", "continuation-token"])
def test_the_first_version_of_a_listing_does_not_begin_where_the_second_does(name: str) -> None:
    error = refusal("GET", BUCKET, (name, "a"), ("list-type", "1"))
    assert (error.code, error.status, error.details["ArgumentName"]) == ("InvalidArgument", 400, name)
    assert route("GET", BUCKET, (name, "a"), ("list-type", "2")) == "ListObjectsV2"


@pytest.mark.parametrize("name", ["versionId", "partNumber", "uploadId", "response-content-type", "prefix", "acl", "list-type"])
def test_a_parameter_that_means_something_is_given_once(name: str) -> None:
    error = refusal("GET", OBJECT, (name, "a"), ("other", ""), (name, "b"))
    assert (error.code, error.status, error.details["ArgumentName"]) == ("InvalidArgument", 400, name)
    assert route("GET", OBJECT, ("x-note", "a"), ("x-note", "b")) == "GetObject"


def test_a_copy_source_turns_writes_into_copies_and_nothing_else() -> None:
    assert route("PUT", OBJECT, copy=True) == "CopyObject"
    assert route("PUT", OBJECT, ("uploadId", "u"), ("partNumber", "1"), copy=True) == "UploadPartCopy"


@pytest.mark.parametrize(
    ("method", "query"), [("GET", ()), ("HEAD", ()), ("DELETE", ()), ("PUT", (("tagging", ""),)), ("POST", (("uploads", ""),))]
)
def test_a_copy_source_is_refused_where_nothing_is_copied(method: str, query: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(S3Error) as caught:
        route(method, OBJECT, *query, copy=True)
    assert (caught.value.code, caught.value.details["ArgumentName"]) == ("InvalidArgument", "x-amz-copy-source")


@pytest.mark.parametrize("name", sorted({name for operation in MODEL.operations.values() for name in operation.literals} - {"list-type"}))
@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "DELETE", "POST"])
@pytest.mark.parametrize("target", [BUCKET, OBJECT])
def test_a_sub_resource_never_reaches_the_object_or_bucket_itself(name: str, method: str, target: Target) -> None:
    if name == "select-type":
        return
    try:
        found = route(method, target, (name, ""))
    except S3Error as error:
        of_bucket = method == "GET" and target == OBJECT and name in {"uploads", "versions"}
        assert error.code == ("InvalidRequest" if of_bucket else "MethodNotAllowed")
    else:
        assert name in MODEL.operations[found].literals


@pytest.mark.parametrize(
    ("method", "query", "argument"),
    [
        ("PUT", [("partNumber", "1")], "partNumber"),
        ("PUT", [("versionId", "v")], "versionId"),
        ("DELETE", [("partNumber", "1")], "partNumber"),
    ],
)
def test_half_of_what_names_a_part_or_a_version_never_overwrites_the_object(
    method: str, query: list[tuple[str, str]], argument: str
) -> None:
    error = refusal(method, OBJECT, *query)

    assert (error.code, error.details["ArgumentName"]) == ("InvalidArgument", argument)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
@pytest.mark.parametrize(
    "query",
    [
        [("versionId", "v")],
        [("uploadId", "u")],
        [("partNumber", "1"), ("uploadId", "u")],
        [("tagging", ""), ("versionId", "v")],
        [("x-amz-copy-source", "b/k")],
    ],
)
def test_an_object_whose_key_is_empty_is_not_its_bucket(method: str, query: list[tuple[str, str]]) -> None:
    error = refusal(method, BUCKET, *query)

    assert (error.code, error.message) == ("InvalidRequest", "A key must be specified")


def test_a_copy_onto_an_empty_key_makes_no_bucket() -> None:
    with pytest.raises(S3Error, match="A key must be specified"):
        route("PUT", BUCKET, copy=True)


def test_reads_of_a_bucket_take_what_names_objects() -> None:
    assert route("GET", BUCKET, ("versionId", "v")) == "ListObjects"
    assert route("HEAD", BUCKET, ("versionId", "v")) == "HeadBucket"


def test_a_presigned_url_may_carry_the_copy_source() -> None:
    assert route("PUT", OBJECT, ("X-Amz-Copy-Source", "b/k")) == "CopyObject"


def test_two_sub_resources_are_refused() -> None:
    error = refusal("PUT", OBJECT, ("acl", ""), ("tagging", ""))

    assert error.code == "InvalidArgument"
    assert error.message == "Conflicting query string parameters: acl, tagging"


@pytest.mark.parametrize(
    ("method", "target", "query", "allowed"),
    [
        ("BREW", BUCKET, [], "DELETE, GET, HEAD, POST, PUT"),
        ("POST", OBJECT, [], "DELETE, GET, HEAD, PUT"),
        ("PUT", Target(None, None), [], "GET"),
        ("POST", BUCKET, [("tagging", "")], "DELETE, GET, PUT"),
        ("PUT", OBJECT, [("policy", "")], ""),
    ],
)
def test_other_methods_are_not_allowed(method: str, target: Target, query: list[tuple[str, str]], allowed: str) -> None:
    error = refusal(method, target, *query)

    assert (error.code, error.status, error.headers["Allow"]) == ("MethodNotAllowed", 405, allowed)


def test_a_post_to_a_bucket_is_a_browsers_form() -> None:
    assert ROUTER.route("POST", BUCKET, [("anything", "")], {}).name == "PostObject"


@pytest.mark.parametrize(
    ("raw_path", "bucket", "key"),
    [
        ("/", None, None),
        ("", None, None),
        ("/b", "b", None),
        ("/b/", "b", None),
        ("/b/k", "b", "k"),
        ("/b/k/", "b", "k/"),
        ("/b//k", "b", "/k"),
        ("/b/a//../%2e%2E/./k", "b", "a//../.././k"),
        ("/b/a+b%20c%2Bd%25", "b", "a+b c+d%"),
        ("/b/%2525", "b", "%25"),
        ("/b/%F0%9F%99%82%00", "b", "🙂\x00"),
        ("/b/🙂", "b", "🙂"),
        ("/b/a%2Fb", "b", "a/b"),
        ("/a%2Fb/k", "a/b", "k"),
    ],
)
def test_paths_are_taken_as_they_are_sent(raw_path: str, bucket: str | None, key: str | None) -> None:
    assert split_target(None, raw_path) == (bucket, key)


@pytest.mark.parametrize("raw_path", ["/b/%", "/b/%4", "/b/%zz", "/b/%ff", "/b/%C3", "/b/%ED%A0%80", "/%ff/k", "/b/\udcff", "//k"])
def test_paths_that_are_not_utf_8_are_refused(raw_path: str) -> None:
    with pytest.raises(S3Error, match="InvalidURI"):
        split_target(None, raw_path)


@pytest.mark.parametrize(("raw_path", "key"), [("/k", "k"), ("/", None), ("//k", "/k"), ("/b/k", "b/k"), ("/%2F", "/")])
def test_where_the_host_names_the_bucket_the_path_is_the_key(raw_path: str, key: str | None) -> None:
    assert split_target("bucket", raw_path) == ("bucket", key)


@given(st.none() | st.just("bucket"), st.text())
def test_any_path_is_split_or_refused(hosted: str | None, raw_path: str) -> None:
    try:
        target = split_target(hosted, raw_path)
    except S3Error as error:
        assert error.code == "InvalidURI"
    else:
        assert target.bucket != ""
        assert target.key != ""


def test_an_upload_is_not_put() -> None:
    error = refusal("PUT", OBJECT, ("uploadId", "u"))
    assert (error.code, error.details["Method"], error.headers["Allow"]) == ("MethodNotAllowed", "PUT", "DELETE, GET, POST")
