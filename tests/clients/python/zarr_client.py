"""zarr: an array in chunks, written and read in slices.

Needs: zarr>=3 s3fs>=2026
"""

import numpy as np
import zarr
from checking import ENDPOINT, check, finish, new_bucket, same

bucket = new_bucket()
store = zarr.storage.FsspecStore.from_url(f"s3://{bucket}/array", storage_options={"endpoint_url": ENDPOINT})

with check("an array is written in chunks, and a slice is read"):
    wanted = np.arange(1_000_000).reshape(1000, 1000)
    array = zarr.create_array(store, shape=wanted.shape, chunks=(100, 100), dtype="i8")
    array[:] = wanted
    found = zarr.open_array(store, mode="r")
    same(bool((found[250:260, 990:] == wanted[250:260, 990:]).all()), True)

finish()
