"""Questions for tests, made from a few words."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.s3.policy.actions import Action
from proxy.s3.policy.decision import ObjectFacts, Question, Resource
from proxy.s3.policy.principal import ANONYMOUS, Principal

OWNER = Principal("owner", "AK1", "111122223333", "a" * 64)
DAVE = OWNER._replace(user="Dave", access_key="AK2")
SESSION = OWNER._replace(role="reader", session="build-7")
OTHER = Principal("other", "AK3", "444455556666", "b" * 64)
JANE = OTHER._replace(user="Jane", access_key="AK4")
STRANGER = ANONYMOUS


class Keys:
    """Condition keys, as a test gives them."""

    def __init__(self, **values: str | Sequence[str]) -> None:
        """Take keys with `__` for the colon, and `_` for what stands in no Python name: `aws__SourceIp`, `s3__max_keys`."""
        self._values = {name.replace("__", ":").replace("_", "-").lower(): value for name, value in values.items()}

    def values(self, key: str, question: Question) -> Sequence[str] | None:
        if key.startswith("s3:existingobjecttag/"):
            value = question.object().tags.get(key.partition("/")[2])
            return None if value is None else [value]
        found = question.principal.user or None if key == "aws:username" else self._values.get(key)
        return [found] if isinstance(found, str) else found


def ask(
    principal: Principal,
    action: str,
    key: str | None = "key",
    *,
    bucket: str = "amzn-s3-demo-bucket",
    tags: dict[str, str] | None = None,
    **keys: str | Sequence[str],
) -> Question:
    """Return a question about an object, or a bucket if there is no key."""
    thing = None if tags is None else ObjectFacts(tags=tags)
    return Question(principal, Action(f"s3:{action}"), Resource(bucket, key), Keys(**keys), thing)
