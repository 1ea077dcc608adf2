"""What a page of a listing tells a client."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from proxy.manifest.drafts import ObjectPage
from proxy.s3.contents import contents


class Seen(NamedTuple):
    """What is told of an object. `owner` is the one that its ACL names, "" if it has none."""

    key: str
    etag: str
    size: int
    storage_class: str
    owner: str


def listed(page: ObjectPage) -> list[Seen]:
    """Return the entries of a page."""
    runs = contents(page.lines, url_encoded=True, owner_of=lambda named: {"ID": named or "", "DisplayName": None})
    document = ElementTree.fromstring(b"<all>" + b"".join(run.text for run in runs) + b"</all>")

    def text(entry: ElementTree.Element, path: str) -> str:
        return entry.findtext(path) or ""

    return [
        Seen(
            unquote_plus(text(entry, "Key")),
            text(entry, "ETag").strip('"'),
            int(text(entry, "Size")),
            text(entry, "StorageClass"),
            text(entry, "Owner/ID"),
        )
        for entry in document
    ]
