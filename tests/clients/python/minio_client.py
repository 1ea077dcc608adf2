"""minio-py.

Needs: boto3 minio
"""

from io import BytesIO

from checking import ACCESS_KEY, AWKWARD, HOST, SECRET_KEY, check, data, finish, new_bucket, same
from minio import Minio
from minio.commonconfig import ComposeSource, CopySource, Tags
from minio.deleteobjects import DeleteObject

bucket = new_bucket()
client = Minio(endpoint=HOST, access_key=ACCESS_KEY, secret_key=SECRET_KEY, secure=False)

with check("awkward keys"):
    for key in AWKWARD:
        client.put_object(bucket_name=bucket, object_name=key, data=BytesIO(key.encode()), length=len(key.encode()))
        same(client.get_object(bucket_name=bucket, object_name=key).read(), key.encode())

with check("a stream of unknown length"):
    body = data(12_000_000)
    client.put_object(bucket_name=bucket, object_name="stream", data=BytesIO(body), length=-1, part_size=5 * 1024 * 1024)
    same(client.get_object(bucket_name=bucket, object_name="stream").read() == body, True)

with check("copy, compose, stat, tags"):
    client.copy_object(bucket_name=bucket, object_name="copy", source=CopySource(bucket_name=bucket, object_name="stream"))
    sources = [ComposeSource(bucket_name=bucket, object_name="stream"), ComposeSource(bucket_name=bucket, object_name="a b")]
    client.compose_object(bucket_name=bucket, object_name="composed", sources=sources)
    same(client.stat_object(bucket_name=bucket, object_name="composed").size, 12_000_003)
    tags = Tags.new_object_tags()
    tags["k"] = "v"
    client.set_object_tags(bucket_name=bucket, object_name="copy", tags=tags)
    same(dict(client.get_object_tags(bucket_name=bucket, object_name="copy")), {"k": "v"})

with check("list and remove"):
    names = [found.object_name for found in client.list_objects(bucket_name=bucket, recursive=True)]
    same(set(names) >= set(AWKWARD), True)
    same(list(client.remove_objects(bucket_name=bucket, delete_object_list=[DeleteObject(name) for name in names])), [])
    same(list(client.list_objects(bucket_name=bucket)), [])

finish()
