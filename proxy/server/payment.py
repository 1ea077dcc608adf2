"""Request payment: buckets whose requesters pay say so, and whoever is not their owner must agree to it in each request.

Nothing is charged here: what is kept is the agreement, as clients of such buckets give it.
Source: Amazon S3 User Guide, "Using Requester Pays buckets for storage transfers and usage".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from proxy.s3.errors import S3Error
from proxy.s3.policy.principal import Principal
from proxy.server.call import OwnedBucket

PAYMENT = "request_payment"  # its name among the bucket's settings
OWNER, REQUESTER = "BucketOwner", "Requester"
_HEADER = "x-amz-request-payer"


def agreed_to_pay(buckets: Iterable[OwnedBucket | None], principal: Principal, headers: Mapping[str, str]) -> bool:
    """Tell whether the requester pays for one of the buckets. AccessDenied if he would have to and does not say so, or is nobody."""
    pays = False
    for held in buckets:
        if held is not None and PAYMENT in held.bucket.settings and principal.tenant_id != held.owner.id:
            if principal.anonymous or headers.get(_HEADER, "").strip().lower() != "requester":
                raise S3Error("AccessDenied")
            pays = True
    return pays
