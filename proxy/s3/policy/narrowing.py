"""Narrowing a policy to one request that is about many keys: DeleteObjects may list a thousand, and a policy may have 20 KiB.

Who asks, what for, and what the request says of itself are the same for all keys. So they are decided once: statements that are not about
them go, conditions that hold go, variables are replaced by their values. What rests on the object stays, and is decided key by key: the
pattern of its name, its tags, its version.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from proxy.s3.policy.conditions import Condition
from proxy.s3.policy.decision import Context, Finding, Grants, ObjectNeeded, Policy, Question, UploadGone
from proxy.s3.policy.evaluate import Judge, Variables, concerns, first
from proxy.s3.policy.patterns import Template, VariableMissing
from proxy.s3.policy.statement import Statement


def narrowed(grants: Grants, question: Question) -> Grants:
    """Return what of the grants is about a question, whatever its object. The question has no object yet."""

    def narrow(policy: Policy) -> Policy:
        return Narrowed(policy, question) if isinstance(policy, Judge) else policy

    return grants._replace(
        bucket_policy=None if grants.bucket_policy is None else narrow(grants.bucket_policy),
        limits=tuple((kind, narrow(policy)) for kind, policy in grants.limits),
        role=None if grants.role is None else tuple(narrow(policy) for policy in grants.role),
    )


class Narrowed:
    """What a policy says to questions that differ in their object alone. It is a `Policy` of the decision."""

    __slots__ = ("_allowing", "_denying")

    def __init__(self, judge: Judge, question: Question) -> None:
        """See `narrowed`."""
        probe = question._replace(context=_Probe(question.context), thing=None, version_id=None)
        self._denying = tuple(_narrowed(judge.denying, probe))
        self._allowing = tuple(_narrowed(judge.allowing, probe))

    def judge(self, question: Question) -> Finding:
        """Return what the policy says. Raises `ObjectNeeded`."""
        return first(self._denying, question) or first(self._allowing, question) or Finding()


class _Probe:
    """A context that says what rests on the object: by `ObjectNeeded`."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Context) -> None:
        self._inner = inner

    def values(self, key: str, question: Question) -> Sequence[str] | None:
        """See `Context`."""
        if key == "s3:versionid":
            raise ObjectNeeded
        return self._inner.values(key, question)


def _narrowed(statements: Sequence[tuple[Statement, bool | None]], probe: Question) -> Iterator[tuple[Statement, bool | None]]:
    for statement, _ in statements:
        direct = concerns(statement, probe)
        conditions = None if direct is None else _left(statement, probe)
        if conditions is not None:
            resources = tuple(_resolved(template, probe) for template in statement.resources)
            yield statement._replace(resources=resources, conditions=conditions), direct


def _left(statement: Statement, probe: Question) -> tuple[Condition, ...] | None:
    """Return the conditions that rest on the object; None if one of the others does not hold."""
    left = []
    for condition in statement.conditions:
        try:
            if not condition.holds(probe.context.values(condition.key, probe), Variables(probe)):
                return None
        except VariableMissing:
            return None
        except UploadGone:
            if statement.effect == "Deny":
                return None
        except ObjectNeeded:
            left.append(condition)
    return tuple(left)


def _resolved(template: Template, probe: Question) -> Template:
    """Return a pattern with its variables replaced; one that has no value, or rests on the object, stays as it is."""
    try:
        return template.resolved(Variables(probe))
    except (VariableMissing, UploadGone, ObjectNeeded):
        return template
