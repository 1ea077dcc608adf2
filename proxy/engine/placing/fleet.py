"""The fleet: every store the configuration names, with what is known of each right now."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from proxy.engine.placing.placement import Policy, without
from proxy.errors import ConfigError
from proxy.stores.observe import LARGE_SIZE, Condition, ObservedStore, Verb

logger = logging.getLogger(__name__)


FAR_SECONDS = 0.01  # disks nearby answer sooner, and no provider does


class Fleet:
    """Stores by name, and the orders in which to use them."""

    def __init__(self, stores: Mapping[str, ObservedStore]) -> None:
        self.stores = stores
        self.leaving: frozenset[str] = frozenset()
        self._staying: dict[Policy, Policy] = {}

    def leave(self, names: frozenset[str]) -> None:
        """From now on these stores get no new shards; what they hold is read as before."""
        if names != self.leaving:
            self.leaving, self._staying = names, {}

    def staying(self, policy: Policy) -> Policy:
        """Return the policy without the stores that are being left: shards are placed by it. The same one each time.

        One that cannot do without them is returned as it is. Such a drain is refused, so the configuration has changed since.
        """
        if not any(info.name in self.leaving for info in policy.stores):
            return policy
        if policy not in self._staying:
            try:
                self._staying[policy] = without(policy, self.leaving)
            except ConfigError as error:
                logger.warning("shards go on being placed in stores that are being left: %s", error)
                self._staying[policy] = policy
        return self._staying[policy]

    def __getitem__(self, name: str) -> ObservedStore:
        return self.stores[name]

    def __contains__(self, name: str) -> bool:
        return name in self.stores

    def configured(self, policy: Policy) -> frozenset[str]:
        """Return the names of a policy's stores that are here."""
        return frozenset(str(info.name) for info in policy.stores if info.name in self.stores)

    def writable(self, policy: Policy) -> frozenset[str]:
        """Return those of a policy's stores that are not known to fail when a shard is put."""
        stores = self.stores
        return frozenset([info.name for info in policy.stores if info.name in stores and stores[info.name].ready_for("put")])

    def prompt(self, policy: Policy) -> frozenset[str]:
        """Return those that are as fast as ever, far away or not; and those whose turn it is to show whether they are again."""
        stores = {name: self.stores[name] for name in self.configured(policy)}
        return frozenset(name for name, store in stores.items() if store.is_on_trial("put") or not _is_worse_than_usual(store))

    def any_down(self, policy: Policy) -> bool:
        """Tell whether one of a policy's stores takes no shards just now, as far as is known; not one that only takes long."""
        stores = self.stores
        return any(stores[info.name].is_down("put") for info in policy.stores if info.name in stores)

    def readable(self, name: str) -> bool:
        """Tell whether a store is configured and not known to fail when a shard is read."""
        store = self.stores.get(name)
        return store is not None and store.ready_for("get_range")

    def are_far(self, names: Sequence[str]) -> bool:
        """Tell whether most of these stores are known to take so long to answer a read that more should be asked for at a time."""
        usual = sorted(_usual_seconds(self.stores[name]) for name in names if name in self.stores)
        return bool(usual) and usual[len(usual) // 2] >= FAR_SECONDS

    def are_nearby(self, policy: Policy) -> bool:
        """Tell whether most of a policy's stores are known to be in this machine, however long they take."""
        nearby = [self.stores[name].is_nearby for name in self.configured(policy)]
        return 2 * sum(nearby) > len(nearby)

    def usual_seconds(self, names: Iterable[str], verb: Verb, *, size_bytes: int) -> list[float]:
        """Return what half of the last calls of about this size took, of each of these stores that there is, the shortest first."""
        return sorted(self.stores[name].latency_median(verb, size_bytes=size_bytes) for name in names if name in self.stores)

    def by_readiness(self, candidates: Sequence[tuple[int, str]]) -> list[int]:
        """Return the shard indexes of (index, store) pairs, best store to read from first: healthy, then fast, then cheap.

        One that is on trial comes after those that keep pace: whoever asks another wants an answer soon.
        """

        def cost(candidate: tuple[int, str]) -> tuple[bool, bool, float, float]:
            store = self.stores[candidate[1]]
            ready, prompt = store.ready_for("get_range"), store.keeps_pace("get_range")
            return not ready, not prompt, round(store.latency_p95("get_range"), 2), store.info.prices.egress_gb

        return [index for index, _ in sorted((pair for pair in candidates if pair[1] in self.stores), key=cost)]

    def conditions(self) -> dict[str, Condition]:
        """Return what is known of each store right now."""
        return {name: store.condition for name, store in self.stores.items()}

    def by_price(self, candidates: Sequence[tuple[int, str]]) -> list[int]:
        """Return the shard indexes of (index, store) pairs as background work reads them: healthy, then cheap, then fast."""

        def cost(candidate: tuple[int, str]) -> tuple[bool, float, float]:
            store = self.stores[candidate[1]]
            return not store.ready_for("get_range"), store.info.prices.egress_gb, store.latency_p95("get_range")

        return [index for index, _ in sorted((pair for pair in candidates if pair[1] in self.stores), key=cost)]

    async def close(self) -> None:
        for store in self.stores.values():
            await store.close()


def _usual_seconds(store: ObservedStore) -> float:
    """Return how long a store takes to answer a read: of the large ones, if there were no others; 0 if that is not known.

    What is of this machine may take long when that is busy, but not because it is far: to ask for more at a time would keep it busier.
    """
    if store.is_nearby:
        return 0.0
    large = store.latency_median("get_range", size_bytes=LARGE_SIZE, unknown=0.0)
    return store.latency_median("get_range", unknown=large)


def _is_worse_than_usual(store: ObservedStore) -> bool:
    return store.is_down("put") or store.has_slowed("put")
