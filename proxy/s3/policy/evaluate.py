"""Evaluating a policy: what its statements say to a question.

A statement is about a question if its principal, action, resource and all conditions are. Of those that are, one that denies decides; then
one that allows. Conditions come last, for they may need the object: and of statements that allow, only if none allows without it.

A condition about an upload that does not exist denies nothing, and takes nothing back from what is allowed. Nothing can be written to such
an upload. Whoever might have written to it is told that it is not there, and a completion that is repeated gets its answer again.
"""

from __future__ import annotations

from collections.abc import Sequence

from proxy.s3.policy.decision import Finding, ObjectNeeded, Question, UploadGone
from proxy.s3.policy.document import Document
from proxy.s3.policy.patterns import VariableMissing
from proxy.s3.policy.public_policy import is_public
from proxy.s3.policy.statement import Statement


class Judge:
    """A policy document, asked. It is a `Policy` of the decision. `public`: it is a bucket's, and gives something to the public."""

    __slots__ = ("allowing", "denying", "document", "public")

    def __init__(self, document: Document) -> None:
        self.document = document
        self.public = is_public(document)
        self.denying = tuple((one, None) for one in document.statements if one.effect == "Deny")
        self.allowing = tuple((one, None) for one in document.statements if one.effect == "Allow")

    def judge(self, question: Question) -> Finding:
        """Return what the policy says. Raises `ObjectNeeded`."""
        return first(self.denying, question) or first(self.allowing, question) or Finding()


def first(statements: Sequence[tuple[Statement, bool | None]], question: Question) -> Finding | None:
    """Return the first statement that is about the question; one that names the principal itself before one that names its account.

    Beside a statement stands what `concerns` says of it, where that is known already.
    """
    needed, by_account = False, None
    for statement, known in statements:
        direct = concerns(statement, question) if known is None else known
        if direct is None or not _names_resource(statement, question):
            continue
        try:
            if not _conditions_hold(statement, question):
                continue
        except ObjectNeeded:
            needed = True
            continue
        finding = Finding(statement.effect, statement.name, direct)
        if direct or statement.effect == "Deny":
            return finding
        by_account = by_account or finding
    if needed:
        raise ObjectNeeded
    return by_account


def concerns(statement: Statement, question: Question) -> bool | None:
    """Tell whether a statement is about principal and action: None if not, otherwise whether it names the principal itself."""
    direct = True
    if statement.principals is not None and statement.but_principals:
        if statement.principals.spares(question.principal):
            return None
    elif statement.principals is not None:
        match = statement.principals.match(question.principal)
        if match == "none":
            return None
        direct = match == "direct"
    return direct if _names_action(statement, question.action) else None


def _names_action(statement: Statement, action: str) -> bool:
    named = action in statement.actions or any(glob.matches(action.lower()) for glob in statement.globs)
    return named is not statement.but_actions


def _names_resource(statement: Statement, question: Question) -> bool:
    """Tell whether the statement is about the resource. A pattern whose variable has no value is none; the others count."""
    if not statement.resources:
        return True
    arn, resolve, missing = question.resource.arn, Variables(question), False
    for template in statement.resources:
        try:
            if template.matches(arn, resolve):
                return not statement.but_resources
        except (VariableMissing, UploadGone):
            missing = True
    return statement.but_resources and not missing


def _conditions_hold(statement: Statement, question: Question) -> bool:
    resolve = Variables(question)
    needed = False
    for condition in statement.conditions:
        try:
            if not condition.holds(question.context.values(condition.key, question), resolve):
                return False
        except VariableMissing:
            return False
        except UploadGone:
            if statement.effect == "Deny":
                return False
        except ObjectNeeded:  # another one may fail, and spare the object
            needed = True
    if needed:
        raise ObjectNeeded
    return True


class Variables:
    """Returns a variable's value: the one value of a condition key."""

    __slots__ = ("_question",)

    def __init__(self, question: Question) -> None:
        self._question = question

    def __call__(self, key: str) -> str | None:
        values = self._question.context.values(key, self._question)
        return values[0] if values is not None and len(values) == 1 else None
