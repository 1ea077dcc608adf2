"""Transfer acceleration of a bucket."""

from __future__ import annotations

from proxy.s3.acceleration import ACCELERATION, read_status
from proxy.server.call import Call


async def get_bucket_accelerate_configuration(call: Call) -> dict[str, object]:
    status = call.bucket.settings.get(ACCELERATION)
    return {} if status is None else {"Status": status}


async def put_bucket_accelerate_configuration(call: Call) -> dict[str, object]:
    wanted = call.document("AccelerateConfiguration").get("Status")
    status = read_status(wanted, call.bucket.name, is_offered=bool(call.services.config.accelerate_domains))
    await call.services.engine.put_bucket_setting(call.bucket, ACCELERATION, status)
    return {}
