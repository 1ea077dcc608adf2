"""Requests of the Security Token Service: parameters of a form, each checked against the bounds that AWS gives it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl

from proxy.s3.policy.document import MAX_SESSION_SIZE
from proxy.s3.policy.principals import Named, read_arn
from proxy.s3.sts.errors import StsError

VERSION = "2011-06-15"
MAX_SIZE = 64 * 1024  # bytes of a request: a web identity token may have 20,000 characters
MIN_SECONDS = 900
CHAINED_SECONDS = 3600  # at most, of a session that was made by a session
MAX_SECONDS = 12 * 3600  # of a role's sessions
TOKEN_SECONDS = 36 * 3600  # at most, of GetSessionToken
ROOT_TOKEN_SECONDS = 3600

_SESSION_NAME = re.compile(r"[A-Za-z0-9_+=,.@-]{2,64}")
_EXTERNAL_ID = re.compile(r"[A-Za-z0-9_+=,.@:/-]{2,1224}")
_MAX_FIELDS = 100
# Parameters that ask for what is not served: a session must not be told to have what it has not.
_UNSERVED = ("PolicyArns", "Tags", "TransitiveTagKeys", "SerialNumber", "TokenCode", "SourceIdentity", "ProvidedContexts", "ProviderId")


class Parameters:
    """The parameters of one request."""

    def __init__(self, body: bytes) -> None:
        """Read a form. Raises ValidationError for one that is none, MissingAction, InvalidAction."""
        try:
            pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
        except ValueError:
            raise StsError("ValidationError", "The request is no form") from None
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
