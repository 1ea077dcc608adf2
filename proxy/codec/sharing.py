"""Sharing: a secret in n shares, of which any k give it back and fewer say nothing at all.

The problem. A provider that holds a shard holds a column of every stripe. If each shard carried the data key, wrapped by the tenant key,
the tenant key alone would open that column. So a shard carries a share of the data key: only k shards together give the key.

The idea. The secret and k - 1 random blocks of its size are k unknowns d_0 (the secret) .. d_k-1; share i is the sum over j of
d_j / (x_i + y_j), byte by byte in GF(2^8), the x_i and y_j all different. The matrix 1 / (x_i + y_j) is Cauchy's: every square part of it
is regular, whichever rows and columns are taken. Hence

- any k shares are k equations with one solution: the secret and the random blocks, and from those any other share (`rebuild`);
- of k - 1 shares, whatever the secret is, the random blocks go one to one to the shares: without the column of d_0 the matrix is regular,
  too. All shares are equally likely under every secret, so they say nothing about it, whatever computer looks at them.

The points do not depend on n, so a segment may get more shares than it began with. `docs/FORMAT.md` has the proof.

Rejected: PyECLib's own Cauchy code, which takes no more than 32 blocks and shares in all, and whose matrix is the library's to change
while shares are kept for years. Shamir's polynomial would do as well: it does the same with as much work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, reduce


class Field:
    """GF(2^bits), bits up to 8, its elements the numbers below 2^bits. `tables[c]` multiplies bytes by c: `data.translate(tables[c])`."""

    __slots__ = ("order", "tables")

    def __init__(self, bits: int, polynomial: int) -> None:
        self.order = 1 << bits
        doubled = bytes((value << 1) ^ (polynomial if value << 1 >= self.order else 0) for value in range(self.order)).ljust(256, b"\0")
        tables = [bytes(256), bytes(range(self.order)).ljust(256, b"\0")]
        for factor in range(2, self.order):
            table = tables[factor >> 1].translate(doubled)
            tables.append(xor([table, tables[1]]) if factor & 1 else table)
        self.tables = tuple(tables)

    def multiply(self, *factors: int) -> int:
        return reduce(lambda product, factor: self.tables[product][factor], factors, 1)

    def invert(self, value: int) -> int:
        return self.tables[value].index(1)


def xor(blocks: Iterable[bytes]) -> bytes:
    """Return the sum of blocks of one size."""
    total, size = 0, 0
    for block in blocks:
        total ^= int.from_bytes(block, "big")
        size = len(block)
    return total.to_bytes(size, "big")


GF256 = Field(8, 0x11D)


class Sharing:
    """k of n over a field, of which each may be half the order: y_j = j, x_i = order / 2 + i."""

    __slots__ = ("_columns", "_field", "_half", "_k", "_n")

    def __init__(self, k: int, n: int, field: Field = GF256) -> None:
        self._k, self._n, self._field, self._half = k, n, field, field.order // 2
        if not 1 <= k <= n <= self._half:
            raise ValueError(f"no sharing {k} of {n} over {field.order} elements")
        # By block, then by share: all products of one block are made, joined, and added as one number.
        self._columns = [[field.tables[self.coefficient(index, block)] for index in range(n)] for block in range(k)]

    def coefficient(self, index: int, block: int) -> int:
        """Return what block 0 (the secret), 1 .. k-1 (random) is multiplied by in share `index`."""
        return self._field.invert((self._half + index) ^ block)

    def share(self, secret: bytes, randomness: bytes) -> list[bytes]:
        """Return the n shares. `randomness` is k - 1 times as long as the secret, and never used for another sharing."""
        size = len(secret)
        if len(randomness) != size * (self._k - 1):
            raise ValueError(f"{len(randomness)} random bytes share no secret of {size} bytes {self._k} of {self._n}")
        blocks = [secret, *(randomness[at : at + size] for at in range(0, len(randomness), size))]
        products = [b"".join([block.translate(table) for table in tables]) for block, tables in zip(blocks, self._columns, strict=True)]
        shares = xor(products)
        return [shares[at : at + size] for at in range(0, size * self._n, size)]

    def join(self, shares: Mapping[int, bytes]) -> bytes:
        """Return the secret from k shares by index. Wrong shares give a wrong secret: the caller has something to hold it against."""
        return self._sum(shares, _secret_weights(self, tuple(shares)))

    def rebuild(self, shares: Mapping[int, bytes], index: int) -> bytes:
        """Return share `index`, as it was made, from any k."""
        blocks = [self._sum(shares, self.weights(tuple(shares), block)) for block in range(self._k)]
        return xor(block.translate(self._field.tables[self.coefficient(index, number)]) for number, block in enumerate(blocks))

    def weights(self, indexes: Sequence[int], block: int) -> tuple[int, ...]:
        """Return what each of k shares is multiplied by in block `block`: a row of the inverse of a Cauchy matrix, which has a formula."""
        if len(set(indexes)) != self._k or not all(0 <= index < self._n for index in indexes):
            raise ValueError(f"shares {sorted(indexes)} are not {self._k} of {self._n}")
        points = [self._half + index for index in indexes]
        return tuple(self._weight(points, point, block) for point in points)

    def _weight(self, points: Sequence[int], point: int, block: int) -> int:
        others = [other for other in points if other != point]
        other_blocks = [other for other in range(self._k) if other != block]
        above = [point ^ block, *(block ^ other for other in others), *(point ^ other for other in other_blocks)]
        below = [*(point ^ other for other in others), *(block ^ other for other in other_blocks)]
        return self._field.multiply(*above, self._field.invert(self._field.multiply(*below)))

    def _sum(self, shares: Mapping[int, bytes], weights: Iterable[int]) -> bytes:
        return xor(share.translate(self._field.tables[weight]) for share, weight in zip(shares.values(), weights, strict=True))


@lru_cache(maxsize=1024)
def _secret_weights(sharing: Sharing, indexes: tuple[int, ...]) -> tuple[int, ...]:
    return sharing.weights(indexes, 0)


@lru_cache(maxsize=64)
def key_sharing(k: int, n: int) -> Sharing:
    """Return the sharing of data keys under a scheme of k data cells and n in all."""
    return Sharing(k, n)
