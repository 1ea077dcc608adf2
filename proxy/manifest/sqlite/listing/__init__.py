"""Listings over the SQLite manifest: a page is one statement, or a few; its cost follows the answer and not the bucket."""

from proxy.manifest.sqlite.listing.objects import list_objects
from proxy.manifest.sqlite.listing.records import list_uploads, list_versions

__all__ = ["list_objects", "list_uploads", "list_versions"]
