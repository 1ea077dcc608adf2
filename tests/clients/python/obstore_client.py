"""obstore: put, range, list, conditional put, copy, rename, delete.

Needs: boto3 obstore
"""

import obstore
from checking import AWKWARD, ENDPOINT, check, data, finish, new_bucket, same
from obstore.exceptions import AlreadyExistsError
from obstore.store import S3Store

bucket = new_bucket()
store = S3Store(bucket, endpoint=ENDPOINT, region="us-east-1", client_options={"allow_http": True})

with check("awkward keys"):
    for key in AWKWARD:
        obstore.put(store, key, key.encode())
        same(bytes(obstore.get(store, key).bytes()), key.encode())

with check("a large object, in parts, and ranges of it"):
    body = data(20_000_000)
    obstore.put(store, "large", body, use_multipart=True, chunk_size=5 * 2**20)
    same(bytes(obstore.get_range(store, "large", start=10_000_000, length=100)), body[10_000_000:10_000_100])
    pieces = obstore.get_ranges(store, "large", starts=[0, 15_000_000], lengths=[10, 10])
    same([bytes(piece) for piece in pieces], [body[:10], body[15_000_000:15_000_010]])

with check("create only if it is not there"):
    obstore.put(store, "once", b"1", mode="create")
    try:
        obstore.put(store, "once", b"2", mode="create")
        raise AssertionError("it was written twice")
    except AlreadyExistsError:
        pass

with check("copy, rename, list, delete"):
    obstore.copy(store, "once", "copy")
    obstore.rename(store, "copy", "renamed")
    names = [found["path"] for page in obstore.list(store) for found in page]
    same(set(names), {*AWKWARD, "large", "once", "renamed"})
    obstore.delete(store, names)
    same([found for page in obstore.list(store) for found in page], [])

finish()
