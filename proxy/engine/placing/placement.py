"""Placement: which store gets which shard, decided purely.

A **policy** makes two promises about every segment of k + m shards:

* *Loss.* `may_fail` says how many stores, how many providers and how many regions may fail at once. A write is acknowledged only
  when the shards already stored survive any such failure, so a write that meets one such failure must still leave shards that
  survive the next. Both are proved when the policy is made, for every failure, not when the first store dies.
* *Disclosure.* `never_together` says whose `hands` never hold k shards: a provider's, a jurisdiction's, a named coalition's. Hands that
  hold k - 1 shards learn nothing, even with every key; with one more and the keys, they read the segment. So k - 1 is a hard limit
  for each, before and after any failure.

Shards are dealt evenly, within the limits (`dealing`). Counts, not identities, are dealt: the same plan serves every segment under the
same set of usable stores, and each segment turns it by its own id, so that data and parity cells, and with them the reads, are spread
evenly. A policy is proved with the very plans that writes will use.
Rejected: consistent hashing. The manifest remembers every placement, so nothing need be recomputed from a name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import combinations
from typing import Literal

from proxy.codec.geometry import Scheme
from proxy.engine.placing.dealing import Bound, deal
from proxy.engine.placing.hands import UNITS, Coalition, Unit, hands_of, unit_of
from proxy.errors import ConfigError, NotEnoughShards
from proxy.stores.protocol import StoreInfo


@dataclass(frozen=True, slots=True)
class MayFail:
    """How many of each may fail at once; each line is a promise of its own."""

    stores: int = 0
    providers: int = 0
    regions: int = 0

    @property
    def most(self) -> int:
        """The largest of the three: each unit that fails takes a shard at least."""
        return max(self.stores, self.providers, self.regions)

    def __str__(self) -> str:
        return " or ".join(f"{count} {unit}{'s' if count > 1 else ''}" for unit, count in self.rules()) or "no store"

    def rules(self) -> tuple[tuple[Unit, int], ...]:
        """Return (unit, count) for each promise made."""
        named: tuple[tuple[Unit, int], ...] = (("store", self.stores), ("provider", self.providers), ("region", self.regions))
        return tuple((unit, count) for unit, count in named if count > 0)


@dataclass(frozen=True, eq=False, kw_only=True)  # compared and hashed by identity: it keys the cache of plans
class Policy:
    """A named set of promises over the stores it may use. Making one proves it; an impossible one raises `ConfigError`.

    `never_together` has names of units and of `coalitions`, all those that are configured.
    """

    name: str
    scheme: Scheme
    stores: tuple[StoreInfo, ...]
    may_fail: MayFail = MayFail()
    never_together: frozenset[str] = frozenset({"provider", "jurisdiction"})
    coalitions: tuple[Coalition, ...] = ()
    storage_classes: Mapping[str, Scheme] = field(default_factory=dict)
    segment_size: int = 16 * 1024 * 1024

    def __post_init__(self) -> None:
        for storage_class, scheme in {"STANDARD": self.scheme, **self.storage_classes}.items():
            prove(self, scheme, f'policy "{self.name}"' + ("" if storage_class == "STANDARD" else f", storage class {storage_class}"))

    def scheme_of(self, storage_class: str) -> Scheme:
        """Return the scheme of a storage class of this policy."""
        return self.storage_classes.get(storage_class, self.scheme)

    def info(self, store: str) -> StoreInfo:
        """Return what is known of one of the policy's stores."""
        return next(info for info in self.stores if info.name == store)

    @cached_property
    def guarded_units(self) -> tuple[Unit, ...]:
        """The units of which none may hold k shards."""
        return tuple(unit for unit in UNITS if unit in self.never_together)

    @cached_property
    def guarded_coalitions(self) -> tuple[Coalition, ...]:
        """The coalitions of which none may hold k shards."""
        return tuple(coalition for coalition in self.coalitions if coalition.name in self.never_together)

    @cached_property
    def hands(self) -> Mapping[str, tuple[str, ...]]:
        """Of each store, the hands it is in that may not hold k shards, as in "provider alder-cloud" and "coalition five_eyes"."""
        return {str(info.name): hands_of(info, self.guarded_units, self.guarded_coalitions) for info in self.stores}


def without(policy: Policy, stores: Collection[str]) -> Policy:
    """Return the policy without some of its stores, proved as any is. Raises `ConfigError` if it cannot do without them."""
    return replace(policy, stores=tuple(info for info in policy.stores if info.name not in stores))


def place(policy: Policy, scheme: Scheme, segment_id: bytes, usable: Collection[str]) -> tuple[str, ...]:
    """Return the store of each shard index.

    Only `usable` stores get shards while the limits allow it; where they do not, the remaining shards are planned on stores that are not
    usable now (to be written later), as long as the write can be acknowledged. Raises `NotEnoughShards` otherwise.
    """
    plan = _plan(policy, scheme, frozenset(usable))
    turn = int.from_bytes(segment_id[:4], "big") % scheme.n
    return plan[turn:] + plan[:turn]


def detour(
    policy: Policy, scheme: Scheme, shard_index: int, *, held: Sequence[str], sent: Mapping[int, Collection[str]], usable: Collection[str]
) -> str | None:
    """Return a usable store for a shard beside those held (or on their way), within the limits, or None.

    `sent` tells of each shard index which stores were sent it and have not refused it. A put whose answer was lost may have been stored:
    it counts for what must never be together, though not for what may be lost.
    """
    infos = {str(info.name): info for info in policy.stores}
    holding = {unit: Counter(unit_of(infos[store], unit) for store in held) for unit in UNITS}
    limits = _limits(policy, scheme)
    open_to = [
        info
        for info in policy.stores
        if info.name in usable
        and all(holding[unit][unit_of(info, unit)] < limit for unit, limit in limits.items())
        and not _could_be_read(policy, scheme, info.name, [stores for index, stores in sent.items() if index != shard_index])
    ]
    # A store that already holds a shard of the segment is the last resort, then whoever sees most of it.
    best = min(
        open_to,
        key=lambda info: tuple(holding[unit][unit_of(info, unit)] for unit in ("store", "provider", "jurisdiction", "region")),
        default=None,
    )
    return None if best is None else best.name


def _could_be_read(policy: Policy, scheme: Scheme, store: str, others: Sequence[Collection[str]]) -> bool:
    """Tell whether one more shard here could let a hand of `never_together` read, of the others each being wherever it was sent."""
    return any(
        sum(any(hand in policy.hands[other] for other in stores) for stores in others) + 1 >= scheme.k for hand in policy.hands[store]
    )


def survives(policy: Policy, scheme: Scheme, held: Sequence[str]) -> bool:
    """Tell whether shards held by these stores (one entry a shard) can be read after any failure the policy names."""
    return len(held) >= scheme.k + policy.may_fail.most and _keeps_promises(policy, scheme, tuple(held))


@lru_cache(maxsize=1024)
def _keeps_promises(policy: Policy, scheme: Scheme, held: tuple[str, ...]) -> bool:
    return not shortfalls(policy, scheme, held)


def shortfalls(policy: Policy, scheme: Scheme, held: Sequence[str]) -> tuple[str, ...]:
    """Return, in words, each promise that shards held by these stores would break."""
    if len(held) < scheme.k:
        return (f"{len(held)} shards are fewer than the {scheme.k} a read needs",)
    infos = {str(info.name): info for info in policy.stores}
    broken = []
    for unit, count in policy.may_fail.rules():
        worst = Counter(unit_of(infos[store], unit) for store in held).most_common(count)
        left = len(held) - sum(shards for _, shards in worst)
        if left < scheme.k:
            names = ", ".join(name for name, _ in worst)
            broken.append(f"losing {count} {unit}{'s' * (count > 1)} ({names}) would leave {left} shards of the {scheme.k} a read needs")
    return tuple(broken)


def left_at_worst(policy: Policy, held: Sequence[str]) -> tuple[int, ...]:
    """Return for each failure that the policy names how many of the shards held would be left."""
    infos = {str(info.name): info for info in policy.stores}
    units = [(count, Counter(unit_of(infos[store], unit) for store in held)) for unit, count in policy.may_fail.rules()]
    return tuple(len(held) - sum(shards for _, shards in holding.most_common(count)) for count, holding in units)


def prove(policy: Policy, scheme: Scheme, subject: str) -> None:
    """Prove that writes keep every promise, whole and under every failure the policy names. Raises `ConfigError` with a remedy."""
    if not policy.stores:
        raise ConfigError(f"{subject}: no store may be used; name stores, or allow their jurisdictions")
    names = frozenset(str(info.name) for info in policy.stores)
    plan = _deal(policy, scheme, usable=names)
    if len(plan) < scheme.n:
        raise ConfigError(f"{subject}: scheme {scheme} needs places for {scheme.n} shards, but {_too_few(policy, scheme, len(plan))}")
    if broken := shortfalls(policy, scheme, plan):
        raise ConfigError(f"{subject}: {'; '.join(broken)}. Add stores, add parity (the m of k+m), or lower may_fail")
    for unit, count in policy.may_fail.rules():
        for failed in combinations(sorted({unit_of(info, unit) for info in policy.stores}), count):
            usable = frozenset(str(info.name) for info in policy.stores if unit_of(info, unit) not in failed)
            try:
                _plan(policy, scheme, usable)
            except NotEnoughShards as error:
                raise ConfigError(
                    f"{subject}: with {unit} {', '.join(failed)} down, writes must go on and survive the next failure, "
                    f"but {'; '.join(error.reasons)}. {_remedy(policy, scheme, usable)}"
                ) from error


def _too_few(policy: Policy, scheme: Scheme, places: int) -> str:
    """Say why no more shards can be placed, and what to do. A coalition is named if more could be placed without it."""
    names = frozenset(str(info.name) for info in policy.stores)
    tight = [coalition for coalition in policy.guarded_coalitions if len(_deal(policy, scheme, usable=names, without=coalition)) > places]
    outside = f"outside {' and '.join(f'coalition {coalition.name}' for coalition in tight)}" if tight else "elsewhere"
    return (
        f"{places} can be placed: with never_together = {sorted(policy.never_together)} {_census(policy)} may hold {_shards(scheme.k - 1)} "
        f"at most. Add stores {outside}, choose a scheme with larger k, or relax never_together"
    )


def _remedy(policy: Policy, scheme: Scheme, usable: frozenset[str]) -> str:
    """Say what helps writes over a failure. A coalition is named if they would go on without it."""
    tight = [coalition.name for coalition in policy.guarded_coalitions if _keeps_promises_without(coalition, policy, scheme, usable)]
    if not tight:
        return "Add stores, add parity (the m of k+m), or lower may_fail"
    named = " or ".join(f"coalition {name}" for name in tight)
    return f"Add stores outside {named}, choose a scheme with larger k, lower may_fail, or take {' or '.join(tight)} out of never_together"


def _keeps_promises_without(coalition: Coalition, policy: Policy, scheme: Scheme, usable: frozenset[str]) -> bool:
    plan = _deal(policy, scheme, usable=usable, without=coalition)
    return len(plan) == scheme.n and not shortfalls(policy, scheme, [store for store in plan if store in usable])


@lru_cache(maxsize=1024)
def _plan(policy: Policy, scheme: Scheme, usable: frozenset[str]) -> tuple[str, ...]:
    everywhere = frozenset(str(info.name) for info in policy.stores)
    usual = max(Counter(_deal(policy, scheme, usable=everywhere)).values())
    broken: tuple[str, ...] = ()
    for per_store in (usual, scheme.n):  # only when the promise cannot be kept otherwise does a store get more shards than usual
        plan = _deal(policy, scheme, usable=usable, per_store=per_store)
        broken = shortfalls(policy, scheme, [store for store in plan if store in usable])
        if not broken and len(plan) == scheme.n:
            return plan
    reasons = broken or (f"only {len(plan)} of {scheme.n} shards can be placed",)
    raise NotEnoughShards(needed=scheme.n, found=len(usable), segment="(new)", reasons=reasons)


def _deal(
    policy: Policy, scheme: Scheme, *, usable: frozenset[str], per_store: int | None = None, without: Coalition | None = None
) -> tuple[str, ...]:
    """Deal within the limits of a policy, and of so many shards a store; `without` one of its coalitions to see what it costs."""
    limits = _limits(policy, scheme)
    if per_store is not None:
        limits["store"] = min(limits.get("store", scheme.n), per_store)
    bounds = [Bound(coalition.stores, scheme.k - 1) for coalition in policy.guarded_coalitions if coalition is not without]
    return deal(policy.stores, shards=scheme.n, limits=limits, usable=usable, bounds=bounds)


def _limits(policy: Policy, scheme: Scheme) -> dict[Unit, int]:
    """Return the most shards one unit may hold: fewer than k where it may never read, and no more than m where it may fail."""
    limits: dict[Unit, int] = dict.fromkeys(policy.guarded_units, scheme.k - 1)
    for unit, count in policy.may_fail.rules():
        limits[unit] = min(limits.get(unit, scheme.n), max(scheme.m // count, 1))
    return limits


def _census(policy: Policy) -> str:
    units = [f"each of {len({unit_of(info, unit) for info in policy.stores})} {unit}s" for unit in policy.guarded_units]
    coalitions = [f"coalition {coalition.name} ({_members(policy, coalition)})" for coalition in policy.guarded_coalitions]
    *others, last = [*units, *coalitions] or ["the stores"]
    return f"{', '.join(others)} and {last}" if others else last


def _shards(count: int) -> str:
    return f"{count} shard{'s' * (count != 1)}"


def _members(policy: Policy, coalition: Coalition) -> str:
    return ", ".join(info.name for info in policy.stores if info.name in coalition.stores) or "no store of this policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What one provider, jurisdiction or coalition would hold of a segment; `guarded`: the policy promises that it never could read.

    `members` says who a coalition is.
    """

    unit: Unit | Literal["coalition"]
    name: str
    shards: int
    readable: bool
    guarded: bool
    members: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementReport:
    """A placement in facts, for people: `shards[i]` is the store of shard i."""

    scheme: Scheme
    shards: tuple[StoreInfo, ...]
    survives: tuple[str, ...]
    never_together: tuple[str, ...]
    holdings: tuple[Holding, ...]
    stored_bytes: int
    storage_usd_month: float
    put_usd: float
    get_egress_usd: float


def describe(policy: Policy, *, size_bytes: int, stored_bytes: int, segments: int, segment_id: bytes = bytes(16)) -> PlacementReport:
    """Say where an object of this size would go, what it would survive, and what each holder would have of it."""
    scheme = policy.scheme
    stores = place(policy, scheme, segment_id, [info.name for info in policy.stores])
    infos = tuple(policy.info(store) for store in stores)
    share = stored_bytes / scheme.n
    return PlacementReport(
        scheme=scheme,
        shards=infos,
        survives=tuple(_tolerances(scheme, infos)),
        never_together=tuple(sorted(policy.never_together)),
        holdings=tuple(_holdings(policy, infos)),
        stored_bytes=stored_bytes,
        storage_usd_month=sum(info.prices.storage_gb_month * share / 1e9 for info in infos),
        put_usd=sum(info.prices.put_per_thousand / 1000 for info in infos) * segments,
        get_egress_usd=sum(info.prices.egress_gb for info in infos[: scheme.k]) * size_bytes / scheme.k / 1e9,
    )


def _tolerances(scheme: Scheme, infos: Sequence[StoreInfo]) -> Iterable[str]:
    for unit in ("store", "provider", "region", "jurisdiction"):
        counts = [shards for _, shards in Counter(unit_of(info, unit) for info in infos).most_common()]
        lost = next((i for i in range(len(counts)) if len(infos) - sum(counts[: i + 1]) < scheme.k), len(counts))
        yield f"any {lost} of {len(counts)} {_plural(unit)}" if lost else f"no loss of a {unit}"


def _holdings(policy: Policy, infos: Sequence[StoreInfo]) -> Iterable[Holding]:
    k = policy.scheme.k
    for unit in ("provider", "jurisdiction"):
        guarded = unit in policy.never_together
        for name, shards in sorted(Counter(unit_of(info, unit) for info in infos).items()):
            yield Holding(unit=unit, name=name, shards=shards, readable=shards >= k, guarded=guarded)
    for coalition in policy.coalitions:
        guarded = coalition.name in policy.never_together
        shards = sum(info.name in coalition.stores for info in infos)
        yield Holding(unit="coalition", name=coalition.name, shards=shards, readable=shards >= k, guarded=guarded, members=coalition.parts)


def _plural(unit: str) -> str:
    return f"{unit}s"
