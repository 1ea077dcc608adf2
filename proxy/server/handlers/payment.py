"""Who pays for requests to a bucket."""

from __future__ import annotations

from proxy.s3.errors import S3Error
from proxy.server.call import Call
from proxy.server.handlers.integrity import need_integrity_header
from proxy.server.payment import OWNER, PAYMENT, REQUESTER


async def get_bucket_request_payment(call: Call) -> dict[str, object]:
    return {"Payer": REQUESTER if PAYMENT in call.bucket.settings else OWNER}


async def put_bucket_request_payment(call: Call) -> dict[str, object]:
    need_integrity_header(call.headers)
    payer = call.document("RequestPaymentConfiguration").get("Payer")
    if payer not in {OWNER, REQUESTER}:
        raise S3Error("MalformedXML")
    await call.services.engine.put_bucket_setting(call.bucket, PAYMENT, f'"{REQUESTER}"' if payer == REQUESTER else None)
    return {}
