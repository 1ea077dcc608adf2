"""django-storages: a storage as Django uses it.

Needs: boto3 django-storages[s3] django
"""

import django
from checking import ENDPOINT, check, finish, new_bucket, same
from django.conf import settings

bucket = new_bucket()
settings.configure(STORAGES={})
django.setup()

from django.core.files.base import ContentFile  # noqa: E402 - after the settings
from storages.backends.s3 import S3Storage  # noqa: E402

storage = S3Storage(bucket_name=bucket, endpoint_url=ENDPOINT, region_name="us-east-1", file_overwrite=False)

with check("save, open, list, size, a URL, delete"):
    name = storage.save("photos/a b.txt", ContentFile(b"hello"))
    again = storage.save("photos/a b.txt", ContentFile(b"second"))
    same(name != again, True)
    with storage.open(name) as file:
        same(file.read(), b"hello")
    same(storage.listdir("photos")[1], sorted([name.rpartition("/")[2], again.rpartition("/")[2]]))
    same(storage.size(again), 6)
    import urllib.request

    same(urllib.request.urlopen(storage.url(name), timeout=10).read(), b"hello")
    storage.delete(name)
    same(storage.exists(name), False)

finish()
