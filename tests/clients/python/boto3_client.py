"""boto3: resource, transfer manager, paginators, waiters.

Needs: boto3
"""

from io import BytesIO

import boto3
from boto3.s3.transfer import TransferConfig
from checking import AWKWARD, ENDPOINT, REGION, check, data, finish, new_bucket, same

MIB = 1024 * 1024
bucket, s3 = new_bucket(), boto3.client("s3", endpoint_url=ENDPOINT, region_name=REGION)
resource = boto3.resource("s3", endpoint_url=ENDPOINT, region_name=REGION)

with check("resource: put, load, copy, delete"):
    thing = resource.Object(bucket, "thing")
    thing.put(Body=b"hello", Metadata={"a": "b"})
    same(thing.get()["Body"].read(), b"hello")
    resource.Object(bucket, "copy").copy({"Bucket": bucket, "Key": "thing"})
    same(sorted(found.key for found in resource.Bucket(bucket).objects.all()), ["copy", "thing"])
    resource.Bucket(bucket).objects.delete()
    same(list(resource.Bucket(bucket).objects.all()), [])

with check("transfer manager: 40 MiB up and down in parts"):
    body = data(40 * MIB)
    config = TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=8 * MIB, max_concurrency=4)
    s3.upload_fileobj(BytesIO(body), bucket, "large", Config=config)
    target = BytesIO()
    s3.download_fileobj(bucket, "large", target, Config=config)
    same(target.getvalue() == body, True)

with check("awkward keys"):
    for key in AWKWARD:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
        same(s3.get_object(Bucket=bucket, Key=key)["Body"].read(), key.encode())

with check("paginators"):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={"PageSize": 3})
    same(sorted(found["Key"] for page in pages for found in page["Contents"]), sorted([*AWKWARD, "large"]))

with check("waiters"):
    s3.get_waiter("bucket_exists").wait(Bucket=bucket, WaiterConfig={"MaxAttempts": 1})
    s3.get_waiter("object_exists").wait(Bucket=bucket, Key="large", WaiterConfig={"MaxAttempts": 1})
    s3.get_waiter("object_not_exists").wait(Bucket=bucket, Key="none", WaiterConfig={"MaxAttempts": 1})

finish()
