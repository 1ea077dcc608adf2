"""What the tests of stores share: who a store is, and a name."""

from __future__ import annotations

from proxy.stores.protocol import ShardName, StoreInfo, StoreName

INFO = StoreInfo(name=StoreName("s"), provider="p", region="us-east-1", jurisdiction="j")
NAME = ShardName("ab/abcdef-00")
