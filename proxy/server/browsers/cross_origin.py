"""Cross-origin requests: the rules of the bucket they are about, found before anything else is known of the request.

A browser hides an answer from its script unless the answer's headers allow it, also an error: so they are settled before the signature is
looked at. A request without an Origin comes nowhere near this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Bucket, BucketName
from proxy.s3.cors import Rule, cross_origin_headers, parse_rules, preflight_headers
from proxy.s3.routing import Target

CORS = "cors"  # its name among the bucket's settings


class CrossOrigin:
    """Finds what an answer to a cross-origin request says of it."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest

    async def allow(self, method: str, target: Target, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Return the headers that every answer to this request has, whatever comes of it; names are in lower case."""
        rules = _rules(await self._bucket(target))
        return {} if rules is None else cross_origin_headers(rules, method, headers)

    async def preflight(self, target: Target, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Return the headers of the answer to OPTIONS. AccessForbidden, BadRequest."""
        bucket = await self._bucket(target) if "origin" in headers else None
        return preflight_headers(_rules(bucket), target, headers, has_bucket=bucket is not None)

    async def _bucket(self, target: Target) -> Bucket | None:
        return None if target.bucket is None else await self._manifest.find_bucket(BucketName(target.bucket))


def _rules(bucket: Bucket | None) -> Sequence[Rule] | None:
    document = None if bucket is None else bucket.settings.get(CORS)
    return None if document is None else parse_rules(document)
