"""Plain writes: what most PUTs are. They say nothing of their object but its type, and their bucket says nothing either.

What else a write may say is read in half a dozen places, by headers that a plain one does not have. One look at their names tells that; so
whoever adds such a header adds it here, too, and a test holds the model's headers of PutObject against this.
"""

from __future__ import annotations

from collections.abc import Mapping

from proxy.manifest.records import ObjectAttributes
from proxy.s3.encryption import WRITE_HEADERS
from proxy.s3.object_lock import HOLD, MODE, UNTIL
from proxy.s3.parsing import META
from proxy.s3.policy.acl_requests import CANNED_HEADER, GRANT_HEADERS
from proxy.server.call import Call
from proxy.server.handlers.attributes import ATTRIBUTE_HEADERS, content_type
from proxy.server.handlers.conditions import WRITE_CONDITIONS

SAYING_MORE = frozenset({*ATTRIBUTE_HEADERS, *WRITE_CONDITIONS, *WRITE_HEADERS, *GRANT_HEADERS, CANNED_HEADER, MODE, UNTIL, HOLD})


def is_plain_write(call: Call) -> bool:
    """Tell whether a write makes an object like most: no encryption, ACL, lock, tags, metadata or conditions, and none by default."""
    return not call.bucket.settings and "Metadata" not in call.params and SAYING_MORE.isdisjoint(call.headers)


def says_nothing_more(headers: Mapping[str, str]) -> bool:
    """As `is_plain_write`, as far as the names of headers tell: all but the bucket's settings."""
    return SAYING_MORE.isdisjoint(headers) and not any(name.startswith(META) for name in headers)


def plain_attributes(headers: Mapping[str, str]) -> ObjectAttributes:
    """Return what a plain write says of its object, as `object_attributes` would."""
    return ObjectAttributes(headers={"ContentType": content_type(headers)})
