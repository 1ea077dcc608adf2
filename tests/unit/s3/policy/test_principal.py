"""What principals are called."""

from __future__ import annotations

import pytest

from proxy.s3.policy.principal import ANONYMOUS, Principal, is_account_id

ROOT = Principal("t", "AK", "111122223333", "c")
USER = ROOT._replace(user="backup")
SESSION = ROOT._replace(role="reader", session="build-7")


@pytest.mark.parametrize(
    ("principal", "kind", "arn", "root"),
    [
        (ROOT, "Account", "arn:aws:iam::111122223333:root", True),
        (USER, "User", "arn:aws:iam::111122223333:user/backup", False),
        (SESSION, "AssumedRole", "arn:aws:sts::111122223333:assumed-role/reader/build-7", False),
        (ANONYMOUS, "Anonymous", "", False),
    ],
)
def test_each_kind_of_principal_has_its_arn(principal: Principal, kind: str, arn: str, root: bool) -> None:
    assert (principal.type, principal.arn, principal.is_root) == (kind, arn, root)


def test_a_session_has_the_name_of_its_role_too() -> None:
    assert SESSION.role_arn == "arn:aws:iam::111122223333:role/reader"
    assert USER.role_arn == ""


@pytest.mark.parametrize("text", ["", "11112222333", "1111222233334", "11112222333a", "١١١١٢٢٢٢٣٣٣٣", "111122223333\n"])
def test_an_account_id_has_12_digits(text: str) -> None:
    assert not is_account_id(text)
    assert is_account_id("011122223333")
