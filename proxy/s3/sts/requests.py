"""Requests of the Security Token Service: parameters of a form, each checked against the bounds that AWS gives it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl

from proxy.s3.policy.document import MAX_SESSION_SIZE
from proxy.s3.policy.principals import Named, read_arn
from proxy.s3.sts.errors import StsError
from proxy.s3.sts.tags import SessionTags, read_tags

VERSION = "2011-06-15"
MAX_SIZE = 64 * 1024  # bytes of a request: a web identity token may have 20,000 characters
MIN_SECONDS = 900
CHAINED_SECONDS = 3600  # at most, of a session that was made by a session
MAX_SECONDS = 12 * 3600  # of a role's sessions
TOKEN_SECONDS = 36 * 3600  # at most, of GetSessionToken
ROOT_TOKEN_SECONDS = 3600

_SESSION_NAME = re.compile(r"[A-Za-z0-9_+=,.@-]{2,64}")
_EXTERNAL_ID = re.compile(r"[A-Za-z0-9_+=,.@:/-]{2,1224}")
_MAX_FIELDS = 200  # fifty tags are a hundred
# Parameters that ask for what is not served: a session must not be told to have what it has not.
_UNSERVED = ("PolicyArns", "SerialNumber", "TokenCode", "SourceIdentity", "ProvidedContexts", "ProviderId")


class Parameters:
    """The parameters of one request."""

    def __init__(self, form: bytes) -> None:
        """Read a form, or a query, whose signature is left out. Raises ValidationError for one that is none."""
        try:
            read = parse_qsl(form.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
        except ValueError:
            raise StsError("ValidationError", "The request is no form") from None
        pairs = [(name, value) for name, value in read if not name.startswith("X-Amz-")]
        self._values: Mapping[str, str] = dict(pairs)
        if len(self._values) != len(pairs):
            raise StsError("ValidationError", "A parameter is given twice")
        for name in self._values:
            if name.partition(".")[0] in _UNSERVED:
                raise StsError("ValidationError", f"{name} is not served")

    @property
    def action(self) -> str:
        """What is asked for. MissingAction; InvalidAction for another version of the service."""
        action = self._values.get("Action")
        if action is None:
            raise StsError("MissingAction", "The request is missing an action or a required parameter.")
        if self._values.get("Version", VERSION) != VERSION:
            raise StsError("InvalidAction", f"Could not find operation {action} for version {self._values['Version']}")
        return action

    def text(self, name: str) -> str | None:
        return self._values.get(name)

    def required(self, name: str) -> str:
        value = self._values.get(name)
        if not value:
            member = name[:1].lower() + name[1:]
            raise StsError(
                "ValidationError",
                f"1 validation error detected: Value null at '{member}' failed to satisfy constraint: Member must not be null",
            )
        return value

    def seconds(self, *, default: int, maximum: int) -> int:
        """Return how long the credentials shall live."""
        text = self._values.get("DurationSeconds")
        if text is None:
            return min(default, maximum)
        if not (text.isascii() and text.isdigit() and len(text) <= 9) or int(text) < MIN_SECONDS:
            raise _constraint("durationSeconds", text, f"Member must have value greater than or equal to {MIN_SECONDS}")
        if int(text) > maximum:
            raise StsError("ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
        return int(text)

    def session_name(self) -> str:
        name = self.required("RoleSessionName")
        if not _SESSION_NAME.fullmatch(name):
            raise _constraint("roleSessionName", name, "Member must satisfy regular expression pattern: [\\w+=,.@-]{2,64}")
        return name

    def role(self) -> Named:
        """Return the role's ARN, taken apart."""
        arn = self.required("RoleArn")
        named = read_arn(arn)
        if named is None or named.kind != "role":
            raise StsError("ValidationError", f"{arn[:200]} is invalid")
        return named

    def external_id(self) -> str | None:
        text = self._values.get("ExternalId")
        if text is not None and not _EXTERNAL_ID.fullmatch(text):
            raise _constraint("externalId", text, "Member must satisfy regular expression pattern: [\\w+=,.@:\\/-]*")
        return text

    def tags(self) -> SessionTags:
        """Return the session's tags: Tags.member.1.Key, Tags.member.1.Value, and so on."""
        keys = self._members("Tags", ".Key")
        values = self._members("Tags", ".Value")
        if keys.keys() != values.keys():
            raise StsError("ValidationError", "A tag has a Key and a Value")
        return read_tags(((keys[number], values[number]) for number in keys), self._members("TransitiveTagKeys", "").values())

    def without_tags(self) -> None:
        """ValidationError where tags are asked for and the action has none."""
        if self._members("Tags", ".Key") or self._members("TransitiveTagKeys", ""):
            raise StsError("ValidationError", "This action takes no tags")

    def _members(self, name: str, suffix: str) -> dict[str, str]:
        """Return a list of the request by the numbers of its members, in their order in the request."""
        beginning = f"{name}.member."
        found = ((key, value) for key, value in self._values.items() if key.startswith(beginning) and key.endswith(suffix))
        return {key[len(beginning) : len(key) - len(suffix)]: value for key, value in found}

    def policy(self) -> str | None:
        """Return the session's policy; what it says is not checked yet. PackedPolicyTooLarge."""
        text = self._values.get("Policy")
        if text is not None and len(text) > MAX_SESSION_SIZE:
            raise StsError("PackedPolicyTooLarge", f"A session's policy may have {MAX_SESSION_SIZE} characters at most")
        return text or None


def _constraint(member: str, value: str, constraint: str) -> StsError:
    return StsError(
        "ValidationError", f"1 validation error detected: Value '{value[:200]}' at '{member}' failed to satisfy constraint: {constraint}"
    )
