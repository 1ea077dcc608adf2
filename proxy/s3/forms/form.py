"""Browser forms: what their fields mean, and how an upload by one is answered.

Source: Amazon S3 Developer Guide, "POST Object" and "Creating an HTML form (using AWS signature version 4)".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import quote, quote_plus, urlencode, urlsplit

from proxy.s3.documents import DocumentReader
from proxy.s3.errors import S3Error
from proxy.s3.escaping import xml_text
from proxy.s3.forms.claim import missing_field
from proxy.s3.forms.parser import MAX_FORM_BYTES, FormField
from proxy.s3.forms.policy import parse_policy
from proxy.s3.model import Document, Model
from proxy.s3.tagging import MAX_OBJECT_TAGS, check_tags

_FILENAME = "${filename}"
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# What authorises the form is no attribute of the object.
_SIGNING = frozenset({"x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-security-token", "x-amz-signature"})
_HEADERS = frozenset(
    {"cache-control", "content-disposition", "content-encoding", "content-language", "content-md5", "content-type", "expires"}
)
_CALLED = {"acl": "x-amz-acl", "x-amz-checksum-algorithm": "x-amz-sdk-checksum-algorithm"}
# Of the request's own headers, those that say who asks and whence: rules may depend on them.
_OF_REQUEST = ("host", "origin", "referer", "user-agent")
_STATUSES = {"200": 200, "201": 201}
_REDIRECT_SAFE = "%/:?#[]@!$&'()*+,;=~-._"


class Form(NamedTuple):
    """The fields before the file, with the file's name put into them. By lower-case name; `spelled` says how each was sent."""

    fields: Mapping[str, str]
    spelled: Mapping[str, str]

    @property
    def key(self) -> str:
        """The key of the object. InvalidArgument without one."""
        if "key" not in self.fields:
            raise missing_field("key")
        if not self.fields["key"]:
            raise S3Error("InvalidArgument", "User key must have a length greater than 0.", ArgumentName="key", ArgumentValue="")
        return self.fields["key"]


class FormAnswer(NamedTuple):
    """How an upload by a form is answered, but for the headers that every upload's answer has."""

    status: int
    headers: dict[str, str]
    body: bytes


def read_form(sent: Iterable[FormField], filename: str | None) -> Form:
    """Return the form of the fields that were sent before the file. Fields of one name are joined by commas, as they are in policies."""
    fields: dict[str, list[str]] = {}
    spelled: dict[str, str] = {}
    name_of_file = None if filename is None else filename.replace("\\", "/").rpartition("/")[2]
    left = MAX_FORM_BYTES
    for field in sent:
        value = _expand(field.value, name_of_file)
        left -= len(value)
        if left < 0:  # a long name of a file, and many fields that have it
            raise S3Error("MaxPostPreDataLengthExceeded", MaxPostPreDataLengthBytes=MAX_FORM_BYTES)
        fields.setdefault(field.name.lower(), []).append(value)
        spelled.setdefault(field.name.lower(), field.name)
    return Form({name: ",".join(values) for name, values in fields.items()}, spelled)


def form_headers(form: Form, request_headers: Mapping[str, str], tagging: Document) -> dict[str, str]:
    """Return the headers by which PutObject would be told what the form says, by lower-case name. `tagging`: the model's document of tags.

    InvalidArgument for a value that cannot be a header, MalformedXML, InvalidTag for tags.
    """
    headers = {name: request_headers[name] for name in _OF_REQUEST if name in request_headers}
    for name, value in form.fields.items():
        header = _CALLED.get(name, name)
        if header in _HEADERS or (header.startswith("x-amz-") and header not in _SIGNING):
            if _CONTROL.search(value) and not header.startswith("x-amz-meta-"):  # metadata is encoded before it becomes a header
                message = "A form field that stands for a header has characters that no header can have"
                raise S3Error("InvalidArgument", message, ArgumentName=name, ArgumentValue=value)
            headers[header] = value
    if "tagging" in form.fields:
        headers["x-amz-tagging"] = _tagging_header(form.fields["tagging"], tagging)
    return headers


def check_policy(form: Form, bucket: str, now_ms: int) -> tuple[int, int]:
    """Hold a form that is signed against its policy; return what its file may have at least and at most. See `Policy.check`."""
    policy = parse_policy(form.fields["policy"])
    policy.check(form.fields, form.spelled, bucket=bucket, now_ms=now_ms)
    return policy.sizes


def tagging_document(model: Model) -> Document:
    """Return the document that a form's tags are."""
    document = model.operations["PutObjectTagging"].document
    assert document is not None
    return document


def form_answer(form: Form, *, address: str, bucket: str, etag: str) -> FormAnswer:
    """Return the answer to an upload that succeeded. `etag` has its quotes."""
    redirect = form.fields.get("success_action_redirect", form.fields.get("redirect", ""))
    if _is_url(redirect):
        return FormAnswer(303, {"Location": _redirect(redirect, bucket, form.key, etag)}, b"")
    status = _STATUSES.get(form.fields.get("success_action_status", ""), 204)
    if status != 201:
        return FormAnswer(status, {"Location": address}, b"")
    told = {"Location": address, "Bucket": bucket, "Key": form.key, "ETag": etag}
    body = "".join(f"<{name}>{xml_text(value)}</{name}>" for name, value in told.items())
    document = f'<?xml version="1.0" encoding="UTF-8"?>\n<PostResponse>{body}</PostResponse>'
    return FormAnswer(201, {"Location": address, "Content-Type": "application/xml"}, document.encode())


def _expand(value: str, filename: str | None) -> str:
    """Put the file's name in. Without one the variable stays, as on S3."""
    if filename is None or _FILENAME not in value:
        return value
    if value.count(_FILENAME) * len(filename) > MAX_FORM_BYTES:
        raise S3Error("MaxPostPreDataLengthExceeded", MaxPostPreDataLengthBytes=MAX_FORM_BYTES)
    return value.replace(_FILENAME, filename)


def _tagging_header(text: str, tagging: Document) -> str:
    reader = DocumentReader(tagging)
    reader.feed(text.encode())
    document = reader.finish().get(tagging.member or "")
    rows = document.get("TagSet", []) if isinstance(document, dict) else []
    return urlencode(check_tags(rows, limit=MAX_OBJECT_TAGS))


def _is_url(text: str) -> bool:
    """Tell whether a browser can be sent there. S3 goes on as if the field were not there if not."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme.lower() in {"http", "https"} and bool(parts.netloc) and not _CONTROL.search(text)


def _redirect(url: str, bucket: str, key: str, etag: str) -> str:
    base, hash_sign, fragment = quote(url, safe=_REDIRECT_SAFE).partition("#")
    query = f"bucket={quote_plus(bucket)}&key={quote_plus(key)}&etag={quote_plus(etag)}"
    return f"{base}{'&' if '?' in base else '?'}{query}{hash_sign}{fragment}"
