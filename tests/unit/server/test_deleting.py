"""A list of deletions shares the event loop with other requests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from proxy.s3.errors import S3Error
from proxy.server.call import Call
from proxy.server.handlers import deleting
from tests.turns import others_turns

KEYS = 50


@pytest.mark.parametrize("is_plain", [False, True])
async def test_others_have_turns_while_a_policy_is_asked_for_each_key(monkeypatch: pytest.MonkeyPatch, is_plain: bool) -> None:
    async def refused(*_: object) -> S3Error:
        return S3Error("AccessDenied")

    async def delete_many(*_: object) -> list[object]:
        return []

    monkeypatch.setattr(deleting, "_read_entry", refused)
    engine = SimpleNamespace(delete_many=delete_many)
    guard = SimpleNamespace(is_plain=is_plain)
    call = cast(Call, SimpleNamespace(guard=guard, headers={}, bucket=None, services=SimpleNamespace(engine=engine)))
    async with others_turns() as turns:
        outcomes = await deleting._delete_each(call, [{"Key": "k"}] * KEYS)
    assert [outcome["Code"] for outcome in outcomes] == ["AccessDenied"] * KEYS
    assert (turns.count >= KEYS) is not is_plain
