"""What a policy document says in vain: actions of S3 that there are not, as a misspelt one.

AWS takes such a document for a key or a role, and so is it here; but whoever puts it is told.
"""

from __future__ import annotations

import json

from proxy.s3.policy.catalogue import named_actions


def idle_actions(text: str) -> tuple[str, ...]:
    """Return the actions of S3 that a document without a fault names, and that do not exist."""
    policy = json.loads(text)
    statements = policy["Statement"]
    named = dict.fromkeys(
        action
        for statement in (statements if isinstance(statements, list) else [statements])
        for element in ("Action", "NotAction")
        for action in _listed(statement.get(element, []))
    )
    return tuple(action for action in named if action.lower().startswith("s3:") and not named_actions(action))


def _listed(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]
