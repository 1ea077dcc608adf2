"""The condition keys of a request, each found when a policy asks for it.

Only what goes with the action is there: a listing has a prefix, a copy's source has none of the headers of its target.

How an object of parts is encrypted is said once, by the request that begins the upload, and S3 refuses to hear it again. So a policy that
asks for it is answered from the upload. Other headers of that request say nothing about its parts: AWS refuses parts where a policy asks
for tags or an ACL.

Source: docs.aws.amazon.com/service-authorization/latest/reference/list_s3.html, "Condition keys for Amazon S3"; S3 User Guide, "Bucket
policy examples using condition keys"; IAM User Guide, "AWS global condition context keys"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import unquote

from proxy.s3.claim import ANONYMOUS_CLAIM, Claim
from proxy.s3.errors import S3Error
from proxy.s3.parsing import Params
from proxy.s3.policy.catalogue import goes_with
from proxy.s3.policy.decision import Question, UploadGone, UploadNeeded
from proxy.s3.tagging import parse_tagging_header

_BODY_TAGS = frozenset({"s3:PutObjectTagging", "s3:PutObjectVersionTagging"})
_OF_UPLOAD = frozenset({"UploadPart", "UploadPartCopy", "CompleteMultipartUpload"})
_SSE = "x-amz-server-side-encryption"
_SAID_ONCE = (_SSE, f"{_SSE}-aws-kms-key-id", f"{_SSE}-customer-algorithm")  # headers that hold of an upload's parts, too
_CREATES = {"PutObject": "true", "PostObject": "true", "CopyObject": "true", "CompleteMultipartUpload": "true"}


def kept_for_parts(headers: Mapping[str, str]) -> dict[str, str]:
    """Return those headers of a request that begins an upload which its parts are judged by."""
    return {name: headers[name] for name in _SAID_ONCE if name in headers}


class BodyNeeded(Exception):
    """The decision depends on the request's document, which was not read yet."""


class Peer(NamedTuple):
    """Who is at the other end of the connection, as far as a proxy before us may be believed."""

    address: str = ""
    secure: bool = False
    tls_version: str | None = None  # as "1.3"


class Session(NamedTuple):
    """What a session's token says beside its principal."""

    issued_ms: int
    federated_provider: str = ""
    tags: Mapping[str, str] = {}
    transitive: tuple[str, ...] = ()  # keys of tags that go along to the next session


class RequestContext:
    """What one request says of itself. `peer` is asked only if a policy does."""

    __slots__ = ("_claim", "_headers", "_now_ms", "_operation", "_params", "_peer", "_query", "_session", "_upload")

    def __init__(
        self,
        operation: str,
        query: Sequence[tuple[str, str]],
        headers: Mapping[str, str],
        *,
        claim: Claim = ANONYMOUS_CLAIM,
        now_ms: int = 0,
        peer: Callable[[], Peer] = Peer,
        session: Session | None = None,
    ) -> None:
        """Take a request apart. `headers` have lower-case names; what is no header (`query`) is decoded."""
        self._operation = operation
        self._query = query
        self._headers = headers
        self._claim = claim
        self._now_ms = now_ms
        self._peer = peer
        self._session = session
        self._params: Params | None = None
        self._upload: tuple[Mapping[str, str] | None] | None = None  # None until it was looked up

    def take_body(self, params: Params) -> None:
        """Take the parameters with those of the document, once it was read."""
        self._params = params

    def take_upload(self, begun_with: Mapping[str, str] | None) -> None:
        """Take the headers that the request's upload began with, once it was looked up: None if there is no such upload."""
        self._upload = (begun_with,)

    def values(self, key: str, question: Question) -> Sequence[str] | None:
        """See `Context`. Raises `BodyNeeded`, `UploadNeeded` and `UploadGone`, too."""
        if not goes_with(key, question.action):
            return None
        family, slash, rest = key.partition("/")
        if slash:
            return self._tag(family, rest, question)
        if (find := _KEYS.get(key)) is not None:
            found = find(self, question)
            return found if found is None or isinstance(found, tuple) else (found,)
        if key.startswith("s3:x-amz-") or key in {"s3:if-match", "s3:if-none-match"}:
            header = self._header(key.removeprefix("s3:"))
            return None if header is None else (header,)
        return None

    def _header(self, name: str) -> str | None:
        if name not in _SAID_ONCE or self._operation not in _OF_UPLOAD:
            return self._headers.get(name)
        if self._upload is None:
            raise UploadNeeded
        (begun_with,) = self._upload
        if begun_with is None:
            raise UploadGone
        return begun_with.get(name)

    def _tag(self, family: str, name: str, question: Question) -> tuple[str] | None:
        """Condition keys know no case, and so the tag's key is looked for without it."""
        if family == "s3:existingobjecttag":
            # AWS takes such a policy for these, but has no tags at hand then.
            tags = {} if question.action.endswith("Attributes") else question.object().tags
        elif family == "aws:principaltag":
            tags = {} if self._session is None else self._session.tags
        elif family in {"s3:requestobjecttag", "aws:requesttag"}:
            tags = self._request_tags(question) or {}
        else:
            return None
        return next(((value,) for key, value in tags.items() if key.lower() == name), None)

    def _request_tags(self, question: Question) -> Mapping[str, str] | None:
        if question.action in _BODY_TAGS and self._operation == "PutObjectTagging":
            return _tags_of(self._document("Tagging"))
        header = self._headers.get("x-amz-tagging")
        if header is None:
            return None
        try:
            return parse_tagging_header(header)
        except S3Error:  # the handler says what is wrong
            return None

    def _document(self, member: str) -> Params:
        if self._params is None:
            raise BodyNeeded
        document = self._params.get(member)
        return document if isinstance(document, dict) else {}

    def _query_value(self, name: str) -> str | None:
        return next((value for key, value in self._query if key == name), None)

    # The keys, one a function.

    def _max_keys(self, _question: Question) -> str | None:
        """Return it as listings read it: white space around it counts for nothing, and an empty one is none."""
        return (self._query_value("max-keys") or "").strip() or None

    def _request_tag_keys(self, question: Question) -> tuple[str, ...] | None:
        tags = self._request_tags(question)
        return tuple(tags) if tags else None

    def _source_ip(self, _question: Question) -> str | None:
        return self._peer().address or None

    def _secure(self, _question: Question) -> str:
        return "true" if self._peer().secure else "false"

    def _tls_version(self, _question: Question) -> str | None:
        return self._peer().tls_version

    def _current_time(self, _question: Question) -> str:
        return _iso(self._now_ms)

    def _epoch_time(self, _question: Question) -> str:
        return str(self._now_ms // 1000)

    def _user_agent(self, _question: Question) -> str | None:
        return self._headers.get("user-agent")

    def _referer(self, _question: Question) -> str | None:
        return self._headers.get("referer")

    def _token_issue_time(self, _question: Question) -> str | None:
        return None if self._session is None else _iso(self._session.issued_ms)

    def _multi_factor(self, _question: Question) -> str | None:
        return None if self._session is None else "false"

    def _federated_provider(self, _question: Question) -> str | None:
        return None if self._session is None else self._session.federated_provider or None

    def _auth_type(self, question: Question) -> str | None:
        if question.principal.anonymous:
            return None
        if self._operation == "PostObject":
            return "POST"
        return "REST-QUERY-STRING" if self._claim.presigned else "REST-HEADER"

    def _signature_version(self, question: Question) -> str | None:
        if question.principal.anonymous:
            return None
        return "AWS4-HMAC-SHA256" if self._claim.region else "AWS"

    def _signature_age(self, question: Question) -> str | None:
        if question.principal.anonymous or not self._claim.region:
            return None
        return str(max(0, self._now_ms - int(self._claim.timestamp.timestamp() * 1000)))

    def _content_sha256(self, question: Question) -> str | None:
        return None if question.principal.anonymous else self._claim.payload_hash

    def _copy_source(self, _question: Question) -> str | None:
        header = self._headers.get("x-amz-copy-source")
        return None if header is None else unquote(header.partition("?versionId=")[0]).removeprefix("/")

    def _creates(self, question: Question) -> str | None:
        return None if question.action != "s3:PutObject" else _CREATES.get(self._operation, "false")

    def _location(self, _question: Question) -> str | None:
        return _text_of(self._document("CreateBucketConfiguration"), "LocationConstraint")

    def _retention(self, header: str, member: str, question: Question) -> str | None:
        if question.action == "s3:PutObjectRetention" and self._operation == "PutObjectRetention":
            return _text_of(self._document("Retention"), member)
        return self._headers.get(header)

    def _lock_mode(self, question: Question) -> str | None:
        return self._retention("x-amz-object-lock-mode", "Mode", question)

    def _lock_until(self, question: Question) -> str | None:
        return self._retention("x-amz-object-lock-retain-until-date", "RetainUntilDate", question)

    def _lock_days(self, question: Question) -> str | None:
        """AWS counts whole days that are left, and begun ones."""
        if question.action == "s3:PutBucketObjectLockConfiguration":
            return _default_retention_days(self._document("ObjectLockConfiguration"))
        until = self._lock_until(question)
        try:
            moment = None if until is None else datetime.fromisoformat(until)
        except ValueError:
            return None
        if moment is None or moment.tzinfo is None:
            return None
        return str(-int((self._now_ms - moment.timestamp() * 1000) // 86_400_000))

    def _legal_hold(self, question: Question) -> str | None:
        if question.action == "s3:PutObjectLegalHold" and self._operation == "PutObjectLegalHold":
            return _text_of(self._document("LegalHold"), "Status")
        return self._headers.get("x-amz-object-lock-legal-hold")


def _of_query(name: str) -> Callable[[RequestContext, Question], str | None]:
    return lambda context, _question: context._query_value(name)


def _of_principal(find: Callable[[Question], str]) -> Callable[[RequestContext, Question], str | None]:
    return lambda _context, question: find(question) or None


def _user_id(question: Question) -> str:
    asker = question.principal
    if asker.anonymous:
        return "anonymous"
    if asker.role:
        return f"{asker.role}:{asker.session}"
    return asker.access_key or "" if asker.user else asker.account_id


_KEYS: Mapping[str, Callable[[RequestContext, Question], str | tuple[str, ...] | None]] = {
    "aws:sourceip": RequestContext._source_ip,
    "aws:securetransport": RequestContext._secure,
    "aws:currenttime": RequestContext._current_time,
    "aws:epochtime": RequestContext._epoch_time,
    "aws:useragent": RequestContext._user_agent,
    "aws:referer": RequestContext._referer,
    "aws:principalarn": _of_principal(lambda question: question.principal.role_arn or question.principal.arn),
    "aws:principalaccount": _of_principal(lambda question: question.principal.account_id),
    "aws:principaltype": _of_principal(lambda question: question.principal.type),
    "aws:principalisawsservice": _of_principal(lambda _question: "false"),
    "aws:viaawsservice": _of_principal(lambda _question: "false"),
    "aws:userid": _of_principal(_user_id),
    "aws:username": _of_principal(lambda question: "" if question.principal.role else question.principal.user),
    "aws:tokenissuetime": RequestContext._token_issue_time,
    "aws:multifactorauthpresent": RequestContext._multi_factor,
    "aws:federatedprovider": RequestContext._federated_provider,
    "aws:tagkeys": RequestContext._request_tag_keys,
    "aws:resourceaccount": _of_principal(lambda question: question.account_id),
    "s3:resourceaccount": _of_principal(lambda question: question.account_id),
    "s3:prefix": _of_query("prefix"),
    "s3:delimiter": _of_query("delimiter"),
    "s3:max-keys": RequestContext._max_keys,
    "s3:versionid": _of_principal(lambda question: question.version_id or ""),
    "s3:authtype": RequestContext._auth_type,
    "s3:signatureversion": RequestContext._signature_version,
    "s3:signatureage": RequestContext._signature_age,
    "s3:tlsversion": RequestContext._tls_version,
    "s3:x-amz-content-sha256": RequestContext._content_sha256,
    "s3:x-amz-copy-source": RequestContext._copy_source,
    "s3:objectcreationoperation": RequestContext._creates,
    "s3:requestobjecttagkeys": RequestContext._request_tag_keys,
    "s3:locationconstraint": RequestContext._location,
    "s3:object-lock-mode": RequestContext._lock_mode,
    "s3:object-lock-retain-until-date": RequestContext._lock_until,
    "s3:object-lock-remaining-retention-days": RequestContext._lock_days,
    "s3:object-lock-legal-hold": RequestContext._legal_hold,
}


def _iso(moment_ms: int) -> str:
    return datetime.fromtimestamp(moment_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _tags_of(document: Params) -> dict[str, str]:
    rows = document.get("TagSet")
    tags = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return {str(tag.get("Key", "")): str(tag.get("Value", "")) for tag in tags}


def _text_of(document: Params, member: str) -> str | None:
    value = document.get(member)
    if isinstance(value, datetime):
        return _iso(int(value.timestamp() * 1000))
    return None if value is None else str(value)


def _default_retention_days(document: Params) -> str | None:
    rule = document.get("Rule")
    default = rule.get("DefaultRetention") if isinstance(rule, dict) else None
    if not isinstance(default, dict):
        return None
    days, years = default.get("Days"), default.get("Years")
    return str(days) if isinstance(days, int) else str(years * 365) if isinstance(years, int) else None
