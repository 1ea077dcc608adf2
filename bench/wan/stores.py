"""The six stores behind their lines, and the configuration of a proxy that uses them."""

from __future__ import annotations

from collections.abc import Mapping

from bench.servers import ACCESS_KEY, SECRET_KEY

STORES = {
    "alder": ("eu-north", "EU"),
    "birch": ("eu-south", "EU"),
    "cedar": ("us-east", "US"),
    "dogwood": ("us-west", "US"),
    "elm": ("ch-zurich", "CH"),
    "fir": ("jp-tokyo", "JP"),
}

_HEAD = """
data = "${SHARDGATE_DATA}"
listen = "127.0.0.1:9000"
default_policy = "standard"

[manifest]
path = "${SHARDGATE_DATA}/manifest.sqlite"

[root_key]
path = "${SHARDGATE_DATA}/root.key"
create = true

[cache]
use = "never" # what is read twice would come from memory

[packs]
below_kib = 128

[policies.standard]
scheme = "4+2"
may_fail = { providers = 1 }
"""


def configuration(ports: Mapping[str, int]) -> str:
    """Return the configuration. `ports` is where each store's line begins."""
    return _HEAD + "".join(
        f"""
[stores.{name}]
kind = "s3"
endpoint = "http://127.0.0.1:{ports[name]}"
bucket = "shards"
access_key = "{ACCESS_KEY}"
secret_key = "{SECRET_KEY}"
provider = "{name}-cloud"
region = "{region}"
jurisdiction = "{jurisdiction}"
"""
        for name, (region, jurisdiction) in STORES.items()
    )
