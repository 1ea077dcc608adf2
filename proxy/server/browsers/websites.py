"""Websites on the server: what a browser gets for an address, as S3's website endpoints give it.

A website's visitors are strangers: each page is read as GetObject by nobody in particular, and whoever decides about that decides here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from proxy.engine.engine import Engine
from proxy.manifest.records import Bucket, ObjectKey
from proxy.s3.errors import S3Error
from proxy.s3.website import Rule, Website, folder_location, parse_website
from proxy.server.call import Download

WEBSITE = "website"  # its name among the bucket's settings
METHODS = ("GET", "HEAD")
_REDIRECT = "x-amz-website-redirect-location"
_READ_BY = ("range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since")

Read = Callable[[str, Mapping[str, str], str], Awaitable[Download]]  # key, headers, method


class Asked(NamedTuple):
    """What a visitor asks a website for. `path` is as it was sent, with the query."""

    method: str
    key: str
    path: str
    protocol: str
    host: str
    headers: Mapping[str, str]


class Moved(NamedTuple):
    """An answer that sends the browser elsewhere."""

    status: int
    location: str


class Missed(Exception):
    """There is no page to send. `beside`: why the website's own page for that could not be had."""

    def __init__(self, error: S3Error, beside: S3Error | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.beside = beside


def website_of(bucket: Bucket | None, name: str) -> Website:
    """Return a bucket's website. NoSuchBucket, NoSuchWebsiteConfiguration."""
    if bucket is None:
        raise S3Error("NoSuchBucket", BucketName=name)
    document = bucket.settings.get(WEBSITE)
    if document is None:
        raise S3Error("NoSuchWebsiteConfiguration", BucketName=name)
    return parse_website(document)


async def check_page(engine: Engine, bucket: Bucket, key: str) -> None:
    """Raise NoSuchKey unless there is such an object. S3's website endpoints tell what is missing also to whoever may read nothing."""
    version = await engine.find_version(bucket, ObjectKey(key))
    if version is None or version.is_delete_marker:
        raise S3Error("NoSuchKey", Key=key)


async def visit_website(website: Website, asked: Asked, read: Read) -> Download | Moved:
    """Return what the visitor gets. `read` reads a key for nobody in particular. Raises `Missed`, and S3Error for a 304."""
    if website.all_to is not None:
        return Moved(301, f"{website.all_to.protocol or asked.protocol}://{website.all_to.host}{asked.path}")
    rule = website.rule_for(asked.key)
    if rule is not None:
        return _moved(rule, asked)
    is_folder = not asked.key or asked.key.endswith("/")
    try:
        page = await read(asked.key + website.suffix if is_folder else asked.key, _conditions(asked.headers), asked.method)
    except S3Error as error:
        if error.status == 304:
            raise
        return await _after_error(website, asked, read, error, is_folder=is_folder)
    elsewhere = next((value for name, value in page.headers if name == _REDIRECT), None)
    if elsewhere is None:
        return page
    await _let_go(page)
    return Moved(301, elsewhere)


async def _after_error(website: Website, asked: Asked, read: Read, error: S3Error, *, is_folder: bool) -> Download | Moved:
    if error.status == 404 and not is_folder and await _is_there(f"{asked.key}/{website.suffix}", read):
        return Moved(302, folder_location(asked.key))
    rule = website.rule_for(asked.key, error.status)
    if rule is not None:
        return _moved(rule, asked)
    if website.error_key is None or not 400 <= error.status < 500:
        raise Missed(error) from error
    try:
        page = await read(website.error_key, {}, asked.method)
    except S3Error as failure:
        raise Missed(error, failure) from failure
    page.status = error.status
    page.headers = [*page.headers, *error_headers(error).items()]
    return page


def error_headers(error: S3Error) -> dict[str, str]:
    """Return the headers in which S3 tells of an error where the body is for people."""
    return {"x-amz-error-code": error.code, "x-amz-error-message": error.message} if error.message.isprintable() else {}


def _moved(rule: Rule, asked: Asked) -> Moved:
    return Moved(rule.redirect.status, rule.location(asked.key, protocol=asked.protocol, host=asked.host))


def _conditions(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in _READ_BY if name in headers}


async def _is_there(key: str, read: Read) -> bool:
    try:
        await read(key, {}, "HEAD")
    except S3Error as error:
        if error.status >= 500:
            raise
        return False
    return True


async def _let_go(page: Download) -> None:
    if page.chunks is not None:
        await page.chunks.aclose()
