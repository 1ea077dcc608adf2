"""Stores, policies and segments to plan with."""

from __future__ import annotations

from proxy.codec.geometry import Scheme
from proxy.engine.campaigns.moves import Situation
from proxy.engine.placing.placement import MayFail, Policy
from proxy.manifest.records import Segment, SegmentId
from proxy.stores.protocol import Prices, StoreInfo, StoreName

PLACES = {
    "alder": "a/EU", "birch": "b/EU", "cedar": "c/US", "dogwood": "d/US", "elm": "e/CH", "fir": "f/JP",
    "gum": "g/BR", "hazel": "a/EU", "ivy": "i/US",
}  # fmt: skip
INFOS = {
    name: StoreInfo(name=StoreName(name), provider=place.split("/")[0], region="r", jurisdiction=place.split("/")[1])
    for name, place in PLACES.items()
}
SIX = tuple(PLACES)[:6]
SCHEME = Scheme(4, 2)


def priced(store: str, *, minimum_days: int = 0, **prices: float) -> StoreInfo:
    info = INFOS[store]
    return StoreInfo(
        name=info.name, provider=info.provider, region=info.region, jurisdiction=info.jurisdiction, prices=Prices(**prices),
        minimum_days=minimum_days,
    )  # fmt: skip


def policy(*stores: str, **options: object) -> Policy:
    settings = {"name": "p", "scheme": SCHEME, "may_fail": MayFail(providers=1), **options}
    return Policy(stores=tuple(INFOS[name] for name in stores or SIX), **settings)  # type: ignore[arg-type]


def segment(*stores: str, **options: object) -> Segment:
    return Segment(**{"id": SegmentId(bytes(16)), "size": 1_000_000, "stores": stores or SIX, **options})  # type: ignore[arg-type]


def situation(chosen: Policy, of: Segment, *, scheme: Scheme = SCHEME, **options: object) -> Situation:
    settings = {"usable": frozenset(str(info.name) for info in chosen.stores), "infos": INFOS, **options}
    return Situation(policy=chosen, scheme=scheme, segment=of, **settings)  # type: ignore[arg-type]
