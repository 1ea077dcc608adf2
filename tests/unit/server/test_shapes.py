"""The shapes that are kept: how many, how often a new one, and what each tells of a request."""

from __future__ import annotations

from datetime import UTC, datetime

from proxy.s3.claim import parse_authorization
from proxy.s3.model import load_model
from proxy.s3.parsing import parse_request
from proxy.s3.request import read_headers
from proxy.s3.routing import Target
from proxy.s3.shape import MAX_SHAPED_SIZE, shape_of
from proxy.server.shapes import LEARN_SECONDS, MAX_LIKE, MAX_LINES, Known, Shapes, known_of
from tests.blackbox.signer import Signer

SIGNER = Signer("SHAPEKEYSHAPEKEY1234", "shapesecret", host="h:9000")


def head(path: str = "/b/k", method: str = "PUT", **more: str) -> str:
    named = {name.replace("_", "-"): value for name, value in more.items()}
    headers = SIGNER.sign(method, path, (), named, when=datetime(2026, 11, 26, tzinfo=UTC)).headers
    return "\r\n".join([f"{method} {path} HTTP/1.1", *[f"{name}: {value}" for name, value in headers.items()], "", ""])


def headers_of(text: str) -> dict[str, str]:
    return read_headers((line.partition(": ")[0], line.partition(": ")[2]) for line in text.split("\r\n")[1:] if line)


def known(text: str, operation: str = "PutObject") -> Known:
    headers = headers_of(text)
    claim = parse_authorization(headers, ())
    assert claim is not None
    shape = shape_of(text, claim)
    assert shape is not None
    return known_of(shape, load_model().operations[operation], None, headers)


def test_what_a_shape_tells_of_the_parameters_is_what_the_long_way_tells() -> None:
    one = head(x_amz_meta_a="1", x_amz_meta_b="two words", content_type="text/plain", content_length="5", if_none_match="*")
    other = head("/b/other", x_amz_meta_a="2", x_amz_meta_b="two words", content_type="text/plain", content_length="7", if_none_match="*")
    target, headers = Target("b", "other"), headers_of(other)
    assert known(one).read(target, headers) == parse_request(load_model().operations["PutObject"], target, (), headers)


def test_few_shapes_are_kept_of_those_that_look_alike_and_the_last_used_stay() -> None:
    shapes = Shapes(now=lambda: 0.0)
    heads = [head(user_agent=f"client/{number}") for number in range(MAX_LIKE + 1)]
    for text in heads[:MAX_LIKE]:
        shapes.keep(text, known(text))
    assert shapes.find(heads[0]) is not None
    shapes.keep(heads[MAX_LIKE], known(heads[MAX_LIKE]))
    assert [shapes.find(text) is not None for text in heads] == [True, False, True, True, True]


def test_shapes_are_made_a_few_times_a_second_and_of_small_heads_only() -> None:
    now = 0.0
    shapes = Shapes(now=lambda: now)
    text = head()
    assert shapes.wants(text)
    assert not shapes.wants(text)
    now += LEARN_SECONDS
    assert shapes.wants(text)
    assert not shapes.wants(head(user_agent="x" * MAX_SHAPED_SIZE))
    assert not shapes.wants(head(**{f"x_amz_meta_{number}": "v" for number in range(MAX_LINES)}))
