"""Condition operators: IAM's rules, operator by operator."""

from __future__ import annotations

import pytest

from proxy.s3.policy.conditions import is_operator, read_condition

VALUES = {"aws:username": "anna"}


def holds(operator: str, wanted: str | list[str], given: str | list[str] | None) -> bool:
    values = [wanted] if isinstance(wanted, str) else wanted
    condition = read_condition(operator, "aws:key", values, variables=True)
    return condition.holds([given] if isinstance(given, str) else given, VALUES.get)


@pytest.mark.parametrize(
    ("operator", "wanted", "agree", "disagree"),
    [
        ("StringEquals", "ab", ["ab"], ["AB", "abc", ""]),
        ("StringEquals", "a*", ["a*"], ["ab"]),
        ("StringEquals", ["a", "b"], ["a", "b"], ["c"]),
        ("StringEquals", "${aws:username}", ["anna"], ["${aws:username}"]),
        ("StringEqualsIgnoreCase", "aB", ["AB", "ab"], ["abc"]),
        ("StringLike", "a*c?", ["acd", "abcd"], ["ac", "xacd"]),
        ("StringLike", "${aws:username}/*", ["anna/x"], ["bob/x"]),
        ("NumericEquals", "10", ["10", "10.0", "+10"], ["11", "ten", ""]),
        ("NumericLessThan", "10", ["9", "-1", "9.99"], ["10", "x"]),
        ("NumericLessThanEquals", "10", ["10"], ["10.1"]),
        ("NumericGreaterThan", "10", ["11"], ["10"]),
        ("NumericGreaterThanEquals", "10", ["10"], ["9"]),
        (
            "DateEquals",
            "2026-01-02T03:04:05Z",
            ["2026-01-02T03:04:05Z", "2026-01-02T04:04:05+01:00", "1767323045"],
            ["2026-01-02T03:04:06Z"],
        ),
        ("DateLessThan", "2026-01-02", ["2026-01-01T23:59:59Z"], ["2026-01-02T00:00:00Z", "yesterday"]),
        ("DateGreaterThan", "2026-01-02T00:00:00Z", ["2026-01-02T00:00:00.5Z"], ["2026-01-02T00:00:00Z"]),
        ("Bool", "true", ["true", "True"], ["false", "1"]),
        ("BinaryEquals", "AQI=", ["AQI="], ["AQM=", "not base64"]),
        ("IpAddress", "203.0.113.0/24", ["203.0.113.7", "::ffff:203.0.113.7"], ["203.0.114.1", "2001:db8::1", "", "anna"]),
        ("IpAddress", "2001:DB8:1234:5678::/64", ["2001:db8:1234:5678::9"], ["2001:db8:1234:5679::9", "203.0.113.7"]),
        ("IpAddress", "203.0.113.7", ["203.0.113.7"], ["203.0.113.8"]),
        ("ArnLike", "arn:aws:iam::*:user/a*", ["arn:aws:iam::1:user/anna"], ["arn:aws:iam::1:role/a", "arn:aws:sts::1:user/a", "a"]),
        ("ArnEquals", "arn:aws:iam::1:role/*", ["arn:aws:iam::1:role/x"], ["arn:aws:iam::2:role/x"]),
        ("ArnLike", "arn:aws:s3:::b*", ["arn:aws:s3:::bucket/a:b"], ["arn:aws:s3::x:bucket"]),
    ],
)
def test_an_operator_and_its_negation_are_opposites(operator: str, wanted: str | list[str], agree: list[str], disagree: list[str]) -> None:
    for given, agrees in [*((one, True) for one in agree), *((one, False) for one in disagree)]:
        assert holds(operator, wanted, given) is agrees, given
        negated = {"IpAddress": "NotIpAddress"}.get(operator, operator.replace("Equals", "NotEquals").replace("Like", "NotLike"))
        if is_operator(negated) and negated != operator:
            assert holds(negated, wanted, given) is not agrees, (negated, given)


def test_no_star_of_an_arn_reaches_beyond_its_part() -> None:
    assert not holds("ArnLike", "arn:aws:iam:*:user/anna:*", "arn:aws:iam::1:user/anna")
    assert not holds("ArnLike", "arn:aws:*:*:user/anna:x", "arn:aws:iam::1:user/anna")


@pytest.mark.parametrize(
    ("operator", "missing"),
    [
        ("StringEquals", False),
        ("StringNotEquals", True),
        ("StringEqualsIfExists", True),
        ("StringNotEqualsIfExists", True),
        ("ForAllValues:StringEquals", True),
        ("ForAnyValue:StringEquals", False),
        ("ForAllValues:StringNotEquals", True),
        ("ForAnyValue:StringNotEquals", False),
    ],
)
def test_what_a_key_that_is_not_there_means(operator: str, missing: bool) -> None:
    assert holds(operator, "a", None) is missing


@pytest.mark.parametrize(
    ("operator", "missing"), [("NumericLessThan", False), ("IpAddress", False), ("NotIpAddress", True), ("Bool", False)]
)
def test_other_operators_treat_a_missing_key_alike(operator: str, missing: bool) -> None:
    wanted = {"NumericLessThan": "1", "Bool": "true"}.get(operator, "10.0.0.0/8")
    assert holds(operator, wanted, None) is missing
    assert holds(f"{operator}IfExists", wanted, None)


def test_null_asks_whether_the_key_is_there() -> None:
    assert holds("Null", "true", None)
    assert not holds("Null", "true", "")
    assert holds("Null", "false", "")
    assert not holds("Null", "false", None)


@pytest.mark.parametrize(
    ("operator", "given", "expected"),
    [
        ("ForAllValues:StringEquals", ["a", "b"], True),
        ("ForAllValues:StringEquals", ["a", "c"], False),
        ("ForAllValues:StringEquals", [], True),
        ("ForAnyValue:StringEquals", ["a", "c"], True),
        ("ForAnyValue:StringEquals", ["c", "d"], False),
        ("ForAnyValue:StringEquals", [], False),
        ("ForAllValues:StringNotEquals", ["c", "d"], True),
        ("ForAllValues:StringNotEquals", ["a", "d"], False),
        ("ForAnyValue:StringNotEquals", ["a", "d"], True),
        ("ForAnyValue:StringNotEquals", ["a", "b"], False),
    ],
)
def test_sets_are_compared_value_by_value(operator: str, given: list[str], expected: bool) -> None:
    assert holds(operator, ["a", "b"], given) is expected


@pytest.mark.parametrize(
    "name",
    ["stringequals", "StringEqual", "NullIfExists", "ForAllValues:", "ForSomeValues:StringEquals", "StringNotNotEquals", "IfExists", ""],
)
def test_only_aws_s_operators_are_operators(name: str) -> None:
    assert not is_operator(name)


@pytest.mark.parametrize(
    ("operator", "value"),
    [
        ("NumericEquals", "ten"), ("NumericEquals", "1" * 40), ("NumericEquals", "1e9"), ("DateEquals", "today"), ("Bool", "yes"),
        ("DateEquals", "2026-13-01"), ("BinaryEquals", "***"), ("IpAddress", "123"), ("IpAddress", "10.0.0.0/33"), ("ArnLike", "anna"),
        ("Null", "maybe"), ("StringEquals", "${aws:username"),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_its_operator_is_refused(operator: str, value: str) -> None:
    with pytest.raises(ValueError):
        read_condition(operator, "aws:key", [value], variables=True)


class Counted(str):
    """A text that counts how often its case is folded."""

    folded = 0

    def casefold(self) -> str:
        Counted.folded += 1
        return super().casefold()


def test_a_long_value_is_folded_once_for_all_that_it_is_compared_with() -> None:
    condition = read_condition("StringEqualsIgnoreCase", "aws:useragent", [str(index) for index in range(100)], variables=True)
    assert not condition.holds([Counted("A client" * 100)], lambda _key: None)
    assert Counted.folded == 1
