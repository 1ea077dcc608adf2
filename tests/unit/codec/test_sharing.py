"""Any k shares give the secret; k - 1 say nothing of it: counted out over small fields, where every case can be looked at."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.codec.geometry import MAX_CELLS
from proxy.codec.sharing import GF256, Field, Sharing, key_sharing, xor

GF8 = Field(3, 0b1011)
GF16 = Field(4, 0b10011)
FIELDS = {"GF(8)": GF8, "GF(16)": GF16, "GF(256)": GF256}


@pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)
def test_the_tables_are_a_field(field: Field) -> None:
    elements = range(field.order)
    for a in elements:
        assert field.multiply(a, 1) == a
        assert field.multiply(a, 0) == 0
        assert a == 0 or field.multiply(a, field.invert(a)) == 1
    for a, b, c in itertools.product(list(elements)[:16], list(elements)[-16:], list(elements)[1:16:5]):
        assert field.multiply(a, b) == field.multiply(b, a) < field.order
        assert field.multiply(field.multiply(a, b), c) == field.multiply(a, field.multiply(b, c))
        assert field.multiply(a, b ^ c) == field.multiply(a, b) ^ field.multiply(a, c)


def test_multiplication_is_that_of_polynomials_modulo_0x11d() -> None:
    def product(a: int, b: int) -> int:
        long = 0
        for bit in range(8):
            long ^= (a << bit) * (b >> bit & 1)
        for bit in range(15, 7, -1):
            long ^= (0x11D << bit - 8) * (long >> bit & 1)
        return long

    assert all(GF256.multiply(a, b) == product(a, b) for a in range(256) for b in range(256))


@settings(deadline=None)
@given(
    secret=st.binary(min_size=1, max_size=40),
    k=st.integers(1, 32),
    extra=st.integers(0, 31),
    draw=st.randoms(),
)
def test_any_k_shares_give_the_secret_and_every_other_share(secret: bytes, k: int, extra: int, draw: object) -> None:
    n = min(k + extra, MAX_CELLS)
    shares = dict(enumerate(Sharing(k, n).share(secret, draw.randbytes((k - 1) * len(secret)))))  # type: ignore[attr-defined]
    chosen = {index: shares[index] for index in draw.sample(range(n), k)}  # type: ignore[attr-defined]
    lost = draw.randrange(n)  # type: ignore[attr-defined]
    assert Sharing(k, n).join(chosen) == secret
    assert Sharing(k, n).rebuild(chosen, lost) == shares[lost]


@pytest.mark.parametrize(
    ("field", "k", "n"), [(GF8, 1, 3), (GF8, 2, 4), (GF8, 3, 4), (GF16, 2, 8), (GF16, 3, 5)], ids=lambda value: str(value)[:20]
)
def test_fewer_than_k_shares_are_equally_likely_under_every_secret(field: Field, k: int, n: int) -> None:
    """Perfect secrecy, exhaustively: for each secret, all random blocks give each possible set of k - 1 shares exactly once."""
    sharing = Sharing(k, n, field)
    blocks = [bytes(block) for block in itertools.product(range(field.order), repeat=k - 1)]
    for seen in itertools.combinations(range(n), k - 1):
        for secret in range(field.order):
            views = Counter(tuple(sharing.share(bytes([secret]), block)[index] for index in seen) for block in blocks)
            assert set(views.values()) == {1}
            assert len(views) == field.order ** (k - 1)


@pytest.mark.parametrize(("field", "k", "n"), [(GF8, 2, 4), (GF8, 3, 4), (GF16, 2, 8), (GF16, 3, 5)], ids=lambda value: str(value)[:20])
def test_any_k_shares_give_every_secret_exhaustively(field: Field, k: int, n: int) -> None:
    sharing = Sharing(k, n, field)
    for secret, *block in itertools.product(range(field.order), repeat=k):
        shares = sharing.share(bytes([secret]), bytes(block))
        for chosen in itertools.combinations(range(n), k):
            assert sharing.join({index: shares[index] for index in chosen}) == bytes([secret])


def test_every_square_part_of_every_schemes_matrix_is_regular() -> None:
    """By Cauchy's formula: the determinant of any square part is a product of differences of its points, so it is zero only if two points
    are equal. The points do not depend on the scheme: to look at those of the largest is to look at all."""
    largest = Sharing(MAX_CELLS, MAX_CELLS)
    rows = [GF256.order // 2 + index for index in range(MAX_CELLS)]
    columns = list(range(MAX_CELLS))
    assert len({*rows, *columns}) == 2 * MAX_CELLS
    for (index, row), column in itertools.product(enumerate(rows), columns):
        assert GF256.multiply(largest.coefficient(index, column), row ^ column) == 1


@pytest.mark.parametrize(("k", "n"), [(k, n) for n in range(1, 9) for k in range(1, n + 1)])
def test_every_square_part_is_regular_by_elimination(k: int, n: int) -> None:
    """The same by counting, for every scheme of up to 8 cells: nothing is taken from Cauchy."""
    sharing = Sharing(k, n)
    for size in range(1, k + 1):
        for rows, columns in itertools.product(itertools.combinations(range(n), size), itertools.combinations(range(k), size)):
            assert determinant([[sharing.coefficient(row, column) for column in columns] for row in rows]) != 0


@pytest.mark.parametrize(("k", "n"), [(1, 0), (0, 4), (5, 4), (129, 129), (4, 129)])
def test_what_cannot_be_shared_is_refused(k: int, n: int) -> None:
    with pytest.raises(ValueError, match="no sharing"):
        Sharing(k, n)


@pytest.mark.parametrize("given", [{}, {0: b"a"}, {0: b"a", 1: b"b", 2: b"c"}, {0: b"a", 4: b"b"}, {-1: b"a", 0: b"b"}])
def test_shares_that_are_not_k_of_n_are_refused(given: dict[int, bytes]) -> None:
    with pytest.raises(ValueError, match="are not 2 of 4"):
        key_sharing(2, 4).join(given)


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_randomness_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="random bytes"):
        key_sharing(2, 4).share(bytes(32), bytes(size))


def test_a_wrong_share_gives_a_wrong_secret() -> None:
    shares = key_sharing(3, 5).share(b"secret", bytes(range(12)))
    assert key_sharing(3, 5).join({0: shares[0], 1: xor([shares[1], b"\1" * 6]), 4: shares[4]}) != b"secret"


def test_golden_vector_of_a_sharing() -> None:
    """Stored bytes must never change under one format version."""
    shares = key_sharing(4, 6).share(bytes(range(32)), bytes(range(32, 128)))
    assert [share.hex()[:16] for share in shares] == GOLDEN_SHARES


GOLDEN_SHARES = ["e91a12e102f1f90a", "e21119ea09faf201", "ff0c04f714e7ef1c", "f4070ffc1fece417", "9f7b4aae28ccfd19", "4eaa9b7ff91d2cc8"]


def determinant(rows: list[list[int]]) -> int:
    """Over GF(256), by elimination."""
    rows, product = [list(row) for row in rows], 1
    for column in range(len(rows)):
        pivot = next((row for row in range(column, len(rows)) if rows[row][column]), None)
        if pivot is None:
            return 0
        rows[column], rows[pivot] = rows[pivot], rows[column]
        product = GF256.multiply(product, rows[column][column])
        for row in range(column + 1, len(rows)):
            factor = GF256.multiply(rows[row][column], GF256.invert(rows[column][column]))
            rows[row] = [value ^ GF256.multiply(factor, above) for value, above in zip(rows[row], rows[column], strict=True)]
    return product
