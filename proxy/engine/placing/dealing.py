"""Deals the shards of a segment to stores: as many as the limits allow, to usable stores rather than others, as evenly as can be.

The limits bound what a store, a region, a provider, a jurisdiction and a coalition may hold. Dealing shard by shard to whoever holds least
runs into dead ends: a shard at a provider of two jurisdictions may take the place that the only store of another provider needs. So a deal
is a flow of shards from a source to a sink, and the cheapest one is wanted, where each holder costs the square of what it holds.

The network is two trees with the stores as their common leaves. In a tree, any two holders are apart or one is within the other: from the
source, provider → region → store; to the sink, store → jurisdiction. A coalition joins the first tree that it fits into: five jurisdictions
become a node behind theirs, two providers one before them. One shard after another is sent along the cheapest path, which may move shards
dealt before: with convex costs these successive shortest paths end at the optimum (Ahuja, Magnanti, Orlin: Network Flows, 14.5).

Coalitions that overlap may fit into neither tree. Then the flow is only a bound, and a search closes the gap, cheapest first. Where such
a coalition holds too much, in every deal that is allowed at least one of its parts holds less than here. So one child a part is looked at,
with that part's limit lowered; each takes one path to mend. The first deal in which no coalition holds too much is the best there is.
Stores that are in the same of these coalitions form a group of a tree where they can, so that the parts are few: coalitions of whole
providers or jurisdictions take a few milliseconds, and seldom any search. A tangle of single stores may take too many steps. The search
then gives up on the best and goes straight down to a deal that is good: that keeps every limit, too.
Rejected: a solver of integer programs, a dependency of many megabytes for what takes milliseconds here, once a policy and set of stores.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count

from proxy.engine.placing.hands import Unit, unit_of
from proxy.stores.protocol import StoreInfo

SOURCE, SINK = 0, 1
SEARCH_STEPS = 2000  # less than a second for thirty stores, at the start or when a store fails; a plan is kept


@dataclass(frozen=True, slots=True)
class Bound:
    """Together these stores, those of them that are there, hold at most `limit` shards."""

    stores: frozenset[str]
    limit: int


def deal(
    stores: Sequence[StoreInfo], *, shards: int, limits: Mapping[Unit, int], usable: Collection[str], bounds: Iterable[Bound] = ()
) -> tuple[str, ...]:
    """Return the stores of the shards that can be placed, at most `shards`; in the stores' order, each once before any is twice."""
    network = _Network(stores, shards=shards, limits=limits, usable=usable, bounds=bounds)
    flow = _search(network, shards)
    counts = {info.name: flow[edge] for info, edge in network.store_edges}
    return tuple(name for turn in range(shards) for name, count in counts.items() if count > turn)


def _search(network: _Network, shards: int) -> list[int]:
    """Return the cheapest flow that keeps every bound, the loose ones included; after too many steps, a good one."""
    flow = [0] * len(network.edges)
    limits = [edge.limit for edge in network.edges]
    for _ in range(shards):
        network.send_one(SOURCE, SINK, flow, limits)
    order = count()
    waiting = [(*network.worth(flow), next(order), flow, limits)]
    seen = {tuple(limits)}
    while len(seen) < SEARCH_STEPS:
        *_, flow, limits = heappop(waiting)
        if not network.overfull(flow):
            return flow
        for child, lowered in network.children(flow, limits, seen):
            heappush(waiting, (*network.worth(child), next(order), child, lowered))
    *_, flow, limits = min(waiting, key=lambda entry: (entry[1], entry[0]))
    return _descend(network, flow, limits)


def _descend(network: _Network, flow: list[int], limits: list[int]) -> list[int]:
    """Return a flow that keeps every bound. Each step lowers a limit, so there is an end."""
    while network.overfull(flow):
        flow, limits = min(network.children(flow, limits, set()), key=lambda child: network.worth(child[0])[::-1])
    return flow


@dataclass(frozen=True, slots=True)
class _Edge:
    """From node to node; `flow` shards through it cost weight × flow² + surcharge × flow."""

    start: int
    end: int
    limit: int
    weight: int = 0
    surcharge: int = 0

    def cost(self, flow: int) -> int:
        return self.weight * flow * flow + self.surcharge * flow

    def cost_of_more(self, flow: int) -> int:
        return self.weight * (2 * flow + 1) + self.surcharge


@dataclass(frozen=True, slots=True)
class _Group:
    """Stores with a common limit: a node of a tree."""

    stores: frozenset[str]
    limit: int
    weight: int = 0


class _Network:
    """The stores as a flow network. Flows and limits stand beside it, by number of edge: a search has many of them."""

    def __init__(
        self, stores: Sequence[StoreInfo], *, shards: int, limits: Mapping[Unit, int], usable: Collection[str], bounds: Iterable[Bound]
    ) -> None:
        base = shards * shards + 1  # so that no sum of squares of one kind outweighs one of the next
        weights: dict[Unit, int] = {"region": 1, "jurisdiction": base, "provider": base**2, "store": base**3}

        def groups(unit: Unit) -> list[_Group]:
            members: dict[str, set[str]] = {}
            for info in stores:
                members.setdefault(unit_of(info, unit), set()).add(info.name)
            return [_Group(frozenset(names), limits.get(unit, shards), weights[unit]) for names in members.values()]

        before, after = [*groups("provider"), *groups("region")], groups("jurisdiction")
        names = frozenset(str(info.name) for info in stores)
        present = [Bound(bound.stores & names, bound.limit) for bound in bounds]
        loose = [bound for bound in present if not _joins(before, bound) and not _joins(after, bound)]
        for together in _atoms(stores, loose):
            _ = _joins(before, Bound(together, shards)) or _joins(after, Bound(together, shards))

        self.edges = [_Edge(SOURCE, SINK, shards, surcharge=base**5)]  # what cannot be placed
        self.store_edges: list[tuple[StoreInfo, int]] = []
        self._nodes = 2
        inner, outer = self._tree(before, SOURCE, inward=True), self._tree(after, SINK, inward=False)
        for info in stores:
            store = self._node()
            surcharge = 0 if info.name in usable else base**4
            self.store_edges.append((info, len(self.edges)))
            limit = limits.get("store", shards)
            self.edges.append(_Edge(_within(inner, info.name, SOURCE), store, limit, weights["store"], surcharge))
            self.edges.append(_Edge(store, _within(outer, info.name, SINK), shards))
        self._loose = [(bound.limit, self._parts(bound, [*inner, *outer])) for bound in loose]

    def _node(self) -> int:
        self._nodes += 1
        return self._nodes - 1

    def _tree(self, groups: list[_Group], root: int, *, inward: bool) -> list[tuple[_Group, int, int]]:
        """Add the groups as a tree, the largest next to the root. Return each with its node and its edge, in that order."""
        tree: list[tuple[_Group, int, int]] = []
        for group in sorted(groups, key=lambda group: -len(group.stores)):
            node = self._node()
            above = next((above for outer, above, _ in reversed(tree) if group.stores <= outer.stores), root)
            start, end = (above, node) if inward else (node, above)
            tree.append((group, node, len(self.edges)))
            self.edges.append(_Edge(start, end, group.limit, group.weight))
        return tree

    def _parts(self, bound: Bound, trees: Iterable[tuple[_Group, int, int]]) -> tuple[int, ...]:
        """Return edges whose flows add up to what the stores of a bound hold: as few as are found from the largest group down."""
        left, parts = set(bound.stores), []
        for group, _, edge in sorted(trees, key=lambda entry: -len(entry[0].stores)):
            if group.stores <= left:
                left -= group.stores
                parts.append(edge)
        return (*parts, *(edge for info, edge in self.store_edges if info.name in left))

    def worth(self, flow: Sequence[int]) -> tuple[int, int]:
        """Return what a flow costs, then how far it is from keeping the loose bounds: a search takes the least first."""
        return sum(edge.cost(units) for edge, units in zip(self.edges, flow, strict=True) if units), sum(self._excess(flow))

    def overfull(self, flow: Sequence[int]) -> tuple[int, ...]:
        """Return the edges with a flow of the loose bound that is exceeded most; none if all are kept."""
        excess = self._excess(flow)
        worst = max(range(len(excess)), key=excess.__getitem__, default=None)
        return tuple(edge for edge in self._loose[worst][1] if flow[edge]) if worst is not None and excess[worst] else ()

    def _excess(self, flow: Sequence[int]) -> list[int]:
        return [max(0, sum(flow[edge] for edge in parts) - limit) for limit, parts in self._loose]

    def children(self, flow: Sequence[int], limits: Sequence[int], seen: set[tuple[int, ...]]) -> Iterator[tuple[list[int], list[int]]]:
        """Yield flows and limits with one part of an exceeded bound lowered, but no limits that were seen before."""
        for edge in self.overfull(flow):
            lowered = [*limits]
            lowered[edge] = flow[edge] - 1
            if (key := tuple(lowered)) not in seen:
                seen.add(key)
                yield self._lower(edge, flow, lowered), lowered

    def _lower(self, edge: int, flow: Sequence[int], limits: Sequence[int]) -> list[int]:
        """Return the cheapest flow with one shard less through this edge: its shard takes another way."""
        lowered = [*flow]
        lowered[edge] -= 1
        self.send_one(self.edges[edge].start, self.edges[edge].end, lowered, limits)
        return lowered

    def send_one(self, source: int, sink: int, flow: list[int], limits: Sequence[int]) -> None:
        """Send one shard more along the cheapest path; there always is one, since a shard may go unplaced (Bellman, Ford)."""
        cost: list[float] = [math.inf] * self._nodes
        cost[source] = 0
        reached_by: dict[int, tuple[int, int]] = {}
        changed = True
        while changed:
            changed = False
            for number, edge in enumerate(self.edges):
                units, start, end = flow[number], edge.start, edge.end
                if units < limits[number] and cost[start] + (more := edge.cost_of_more(units)) < cost[end]:
                    cost[end], reached_by[end], changed = cost[start] + more, (number, 1), True
                if units and cost[end] - (less := edge.cost_of_more(units - 1)) < cost[start]:
                    cost[start], reached_by[start], changed = cost[end] - less, (number, -1), True
        at = sink
        while at != source:
            number, step = reached_by[at]
            flow[number] += step
            at = self.edges[number].start if step > 0 else self.edges[number].end


def _joins(tree: list[_Group], bound: Bound) -> bool:
    """Add a bound to a tree, unless it crosses one of the groups there; tell whether it was added."""
    if any(bound.stores & group.stores and not (bound.stores <= group.stores or group.stores <= bound.stores) for group in tree):
        return False
    tree.append(_Group(bound.stores, bound.limit))
    return True


def _atoms(stores: Iterable[StoreInfo], bounds: Sequence[Bound]) -> list[frozenset[str]]:
    """Return the sets of stores that are in the same bounds. Which of such stores takes less is for the flow to say, if it can."""
    atoms: dict[tuple[bool, ...], set[str]] = {}
    for info in stores:
        atoms.setdefault(tuple(info.name in bound.stores for bound in bounds), set()).add(info.name)
    return [frozenset(atom) for atom in atoms.values()] if bounds else []


def _within(tree: Sequence[tuple[_Group, int, int]], store: str, root: int) -> int:
    """Return the node of the smallest group with this store."""
    return next((node for group, node, _ in reversed(tree) if store in group.stores), root)
