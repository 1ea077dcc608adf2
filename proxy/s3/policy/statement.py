"""Statements of policy documents: read and checked, each fault in AWS's words.

What a statement may say depends on the kind of its document: see `document`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, NoReturn

from proxy.s3.errors import S3Error
from proxy.s3.naming import BUCKET_ARN
from proxy.s3.policy.catalogue import ACCOUNT_ACTIONS, BUCKET_ACTIONS, OBJECT_ACTIONS, goes_with, is_condition_key, named_actions
from proxy.s3.policy.conditions import Condition, is_operator, read_condition
from proxy.s3.policy.decision import Effect
from proxy.s3.policy.patterns import Glob, Template, Token, Wild, read_tokens
from proxy.s3.policy.principals import Principals, read_principals

Kind = Literal["bucket", "identity", "trust"]

_ELEMENTS = frozenset(
    {"Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition"}
)  # fmt: skip
_ACTION = re.compile(r"[A-Za-z0-9-]{1,64}:[A-Za-z0-9*?]{1,128}")
_RESOURCE = re.compile(r"arn:[^:]*:[^:]*:[^:]*:[^:]*:.+", re.DOTALL)
_TRUST_ACTIONS = frozenset({"sts:assumerole", "sts:assumerolewithwebidentity", "sts:tagsession", "sts:setsourceidentity", "sts:*", "*"})


class Statement(NamedTuple):
    """One statement. `actions` are those of S3 that it names; `globs` name those of the other services, in lower case."""

    number: int  # 1 is the first
    sid: str
    effect: Effect
    principals: Principals | None  # None: the policy is somebody's, and needs to name nobody
    but_principals: bool  # NotPrincipal
    actions: frozenset[str]
    globs: tuple[Glob, ...]
    but_actions: bool
    resources: tuple[Template, ...]
    but_resources: bool
    conditions: tuple[Condition, ...]

    @property
    def name(self) -> str:
        return f'statement {self.number} "{self.sid}"' if self.sid else f"statement {self.number}"


class StatementReader:
    """Reads the statements of one document."""

    def __init__(self, kind: Kind, bucket: str, *, variables: bool) -> None:
        self._kind = kind
        self._bucket = bucket
        self._variables = variables
        self.weight = 0

    def statement(self, element: object, number: int) -> Statement:
        if not isinstance(element, dict):
            refuse_syntax()
        check_fields(element, _ELEMENTS)
        sid = element.get("Sid", "")
        if not isinstance(sid, str):
            refuse_syntax()
        effect = _effect(element)
        principals, but_principals = self._principals(element, effect)
        patterns, but_actions = _either(element, "Action")
        actions, globs = self._actions(patterns, concrete=not but_actions)
        texts, but_resources = self._resource_texts(element)
        resources = tuple(self._resource(one) for one in texts)
        statement = Statement(
            number,
            sid,
            effect,
            principals,
            but_principals,
            actions,
            globs,
            but_actions,
            resources,
            but_resources,
            self._conditions(element),
        )
        if self._kind == "bucket":
            _check_combination(statement, patterns, texts)
        self.weight += 500 + sum(template.weight for template in resources)
        return statement

    def _principals(self, element: Mapping[str, object], effect: Effect) -> tuple[Principals | None, bool]:
        named = [name for name in ("Principal", "NotPrincipal") if name in element]
        if self._kind == "identity":
            if named:
                refuse("Policy document should not specify a principal.")
            return None, False
        if not named:
            refuse("Missing required field Principal")
        if len(named) > 1:
            refuse_syntax()
        try:
            principals = read_principals(element[named[0]])
        except ValueError:
            refuse("Invalid principal in policy")
        if named == ["NotPrincipal"] and effect == "Allow":
            refuse("Allow with NotPrincipal is not allowed.")
        if self._kind == "bucket" and principals.federated:
            refuse("Invalid principal in policy")
        return principals, named == ["NotPrincipal"]

    def _actions(self, patterns: Sequence[str], *, concrete: bool) -> tuple[frozenset[str], tuple[Glob, ...]]:
        if self._kind == "trust":
            if not patterns or not all(pattern.lower() in _TRUST_ACTIONS for pattern in patterns):
                refuse("AssumeRole policy may only specify STS AssumeRole actions.")
            return frozenset(), tuple(_glob(pattern.lower()) for pattern in patterns)
        actions = frozenset[str]()
        globs = list[Glob]()
        for pattern in patterns:
            named = named_actions(pattern)
            if self._kind == "bucket" and not (named - ACCOUNT_ACTIONS):
                refuse("Policy has invalid action")
            if pattern != "*" and not _ACTION.fullmatch(pattern):
                refuse("Policy has invalid action")
            if not pattern.lower().startswith("s3:"):
                globs.append(_glob(pattern.lower()))
            actions |= named
        if not patterns:
            refuse("Policy statement must contain actions." if concrete else "Policy has invalid action")
        return actions, tuple(globs)

    def _resource_texts(self, element: Mapping[str, object]) -> tuple[Sequence[str], bool]:
        if self._kind != "trust":
            texts, negated = _either(element, "Resource")
            return (texts, negated) if texts else refuse("Policy has invalid resource")
        if "Resource" in element or "NotResource" in element:
            refuse("Has prohibited field Resource")
        return (), False

    def _resource(self, text: str) -> Template:
        try:
            tokens = read_tokens(text, variables=self._variables)
        except ValueError:
            refuse("Policy has invalid resource")
        if self._kind == "bucket" and not _is_of_bucket(text, tokens, self._bucket):
            refuse("Policy has invalid resource")
        if self._kind == "identity" and text != "*" and not _RESOURCE.fullmatch(text):
            refuse("Policy has invalid resource")
        return Template(tokens)

    def _conditions(self, element: Mapping[str, object]) -> tuple[Condition, ...]:
        block = element.get("Condition", {})
        if not isinstance(block, dict):
            refuse_syntax()
        return tuple(
            self._condition(operator, key, value)
            for operator, keys in block.items()
            for key, value in (keys if isinstance(keys, dict) else refuse_syntax()).items()
        )

    def _condition(self, operator: str, key: str, value: object) -> Condition:
        if not is_operator(operator):
            refuse(f"Invalid Condition type : {operator}")
        lower = key.lower()
        if not is_condition_key(lower) and not (self._kind == "trust" and ":" in lower):
            refuse("Policy has an invalid condition key")
        values = _texts(value)
        try:
            condition = read_condition(operator, lower, values, variables=self._variables)
        except ValueError:
            is_address = lower in {"aws:sourceip", "aws:vpcsourceip"} or "IpAddress" in operator
            refuse("Invalid IP address in Conditions" if is_address else f"Invalid value in Conditions for operator {operator}")
        self.weight += 300 + sum(2 * len(one) for one in values)
        return condition


class Number(NamedTuple):
    """A number, as it is written."""

    text: str


def check_fields(element: Mapping[str, object], known: frozenset[str]) -> None:
    for name in element:
        if name not in known:
            refuse(f"Unknown field {name}")


def _effect(element: Mapping[str, object]) -> Effect:
    if "Effect" not in element:
        refuse("Missing required field Effect")
    effect = element["Effect"]
    if not isinstance(effect, str):
        refuse_syntax()
    if effect not in {"Allow", "Deny"}:
        refuse(f"Invalid effect: {effect}")
    return "Allow" if effect == "Allow" else "Deny"


def _either(element: Mapping[str, object], name: str) -> tuple[Sequence[str], bool]:
    """Return what an element or its negation lists, and whether it is the negation."""
    if name in element and f"Not{name}" in element:
        refuse_syntax()
    if name in element:
        return _listed(element[name]), False
    if f"Not{name}" not in element:
        refuse(f"Missing required field {name}")
    return _listed(element[f"Not{name}"]), True


def _listed(value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    texts = [one for one in values if isinstance(one, str)]
    return texts if len(texts) == len(values) else refuse_syntax()


def _texts(value: object) -> list[str]:
    """Return the values of a condition: AWS takes numbers and truth values for text there."""
    values = value if isinstance(value, list) else [value]
    texts = [str(one).lower() if isinstance(one, bool) else one.text if isinstance(one, Number) else one for one in values]
    found = [one for one in texts if isinstance(one, str)]
    return found if found and len(found) == len(texts) else refuse_syntax()


def _glob(pattern: str) -> Glob:
    return Glob(read_tokens(pattern, variables=False))


def _is_of_bucket(text: str, tokens: Sequence[Token], bucket: str) -> bool:
    """Tell whether a resource is this bucket, or in it. The bucket's name must stand there: behind it may come what reaches into it."""
    if not text.startswith(BUCKET_ARN) or not tokens or not isinstance(tokens[0], str):
        return False
    fixed = tokens[0].removeprefix(BUCKET_ARN)
    rest = fixed.removeprefix(bucket)
    if not fixed.startswith(bucket) or (rest and not rest.startswith("/")):
        return False
    return bool(rest) or len(tokens) == 1 or isinstance(tokens[1], Wild)


def _check_combination(statement: Statement, patterns: Sequence[str], resources: Sequence[str]) -> None:
    """Each action must apply to a resource, and each condition key to an action. What is named by a wildcard need not."""
    concrete = frozenset[str]().union(*(named_actions(one) for one in patterns if "*" not in one and "?" not in one))
    for condition in statement.conditions:
        if not statement.but_actions and not all(goes_with(condition.key, action) for action in concrete):
            refuse("Conditions do not apply to combination of actions and resources in statement")
    if statement.but_actions or statement.but_resources:
        return
    reached = frozenset[str]()
    if any("/" not in one.removeprefix(BUCKET_ARN) for one in resources):
        reached |= BUCKET_ACTIONS
    if any("/" in one.removeprefix(BUCKET_ARN) or "*" in one for one in resources):
        reached |= OBJECT_ACTIONS
    if not concrete <= reached or not statement.actions & reached:
        refuse("Action does not apply to any resource(s) in statement")


def refuse(message: str) -> NoReturn:
    raise S3Error("MalformedPolicy", message)


def refuse_syntax() -> NoReturn:
    refuse("Invalid policy syntax.")
