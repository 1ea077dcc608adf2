"""Deals the shards of a segment to stores: as many as the limits allow, to usable stores rather than others, as evenly as can be.

The limits bound what a store, a region, a provider and a jurisdiction may hold. Dealing shard by shard to whoever holds least runs into
dead ends: a shard at a provider of two jurisdictions may take the place that the only store of another provider needs. So a deal is a flow
of shards, source → provider → region → store → jurisdiction → sink, and the cheapest one is wanted, where each holder costs the square of
what it holds. One shard after another is sent along the cheapest path, which may move shards dealt before: with convex costs these
successive shortest paths end at the optimum (Ahuja, Magnanti, Orlin: Network Flows, 14.5).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from proxy.stores.protocol import StoreInfo

Unit = Literal["store", "provider", "region", "jurisdiction"]
SOURCE, SINK = 0, 1


def unit_of(info: StoreInfo, unit: Unit) -> str:
    """Return the name of the store, provider, region or jurisdiction a store belongs to. A region is one provider's."""
    if unit == "store":
        return info.name
    if unit == "region":
        return f"{info.provider}/{info.region}"
    return info.provider if unit == "provider" else info.jurisdiction


def deal(stores: Sequence[StoreInfo], *, shards: int, limits: Mapping[Unit, int], usable: Collection[str]) -> tuple[str, ...]:
    """Return the stores of the shards that can be placed, at most `shards`; in the stores' order, each once before any is twice."""
    network = _Network(stores, shards=shards, limits=limits, usable=usable)
    while network.held < shards and network.send_one():
        pass
    counts = {info.name: edge.flow for info, edge in network.store_edges}
    return tuple(name for turn in range(shards) for name, count in counts.items() if count > turn)


@dataclass(slots=True)
class _Edge:
    start: int
    end: int
    limit: int
    weight: int = 0
    surcharge: int = 0
    flow: int = 0

    @property
    def cost_of_more(self) -> int:
        return self.weight * (2 * self.flow + 1) + self.surcharge

    @property
    def gain_of_less(self) -> int:
        return self.weight * (2 * self.flow - 1) + self.surcharge


class _Network:
    """The stores as a flow network, and what has been dealt."""

    def __init__(self, stores: Sequence[StoreInfo], *, shards: int, limits: Mapping[Unit, int], usable: Collection[str]) -> None:
        base = shards * shards + 1  # so that no sum of squares of one kind outweighs one of the next
        weights: dict[Unit, int] = {"region": 1, "jurisdiction": base, "provider": base**2, "store": base**3}
        self.held = 0
        self.store_edges: list[tuple[StoreInfo, _Edge]] = []
        self._edges: list[_Edge] = []
        self._nodes: dict[tuple[Unit, str], int] = {}

        def edge(start: int, end: int, unit: Unit, surcharge: int = 0) -> _Edge:
            made = _Edge(start, end, limits.get(unit, shards), weights[unit], surcharge)
            self._edges.append(made)
            return made

        def node(info: StoreInfo, unit: Unit, before: int | None = None, after: int | None = None) -> int:
            """Return the node of a holder, tied to its neighbour when it is met first."""
            name = (unit, unit_of(info, unit))
            if name not in self._nodes:
                number = self._nodes[name] = len(self._nodes) + 2
                if before is not None:
                    edge(before, number, unit)
                if after is not None:
                    edge(number, after, unit)
            return self._nodes[name]

        for info in stores:
            region = node(info, "region", before=node(info, "provider", before=SOURCE))
            store, jurisdiction = node(info, "store"), node(info, "jurisdiction", after=SINK)
            surcharge = 0 if info.name in usable else base**4
            self.store_edges.append((info, edge(region, store, "store", surcharge)))
            self._edges.append(_Edge(store, jurisdiction, shards))

    def send_one(self) -> bool:
        """Send one shard more along the cheapest path; tell whether there was one."""
        path = self._cheapest_path()
        for edge, step in path:
            edge.flow += step
        self.held += bool(path)
        return bool(path)

    def _cheapest_path(self) -> list[tuple[_Edge, int]]:
        """Return the edges from source to sink, each with +1 if it carries one more or -1 if one less (Bellman, Ford)."""
        cost: list[float] = [math.inf] * (len(self._nodes) + 2)
        cost[SOURCE] = 0
        reached_by: dict[int, tuple[_Edge, int]] = {}
        changed = True
        while changed:
            changed = False
            for edge in self._edges:
                if edge.flow < edge.limit and cost[edge.start] + edge.cost_of_more < cost[edge.end]:
                    cost[edge.end], reached_by[edge.end], changed = cost[edge.start] + edge.cost_of_more, (edge, 1), True
                if edge.flow and cost[edge.end] - edge.gain_of_less < cost[edge.start]:
                    cost[edge.start], reached_by[edge.start], changed = cost[edge.end] - edge.gain_of_less, (edge, -1), True
        path, at = [], SINK
        while at != SOURCE and at in reached_by:
            edge, step = reached_by[at]
            path.append((edge, step))
            at = edge.start if step > 0 else edge.end
        return path
