"""Websites: what a bucket's configuration may say, and where a request goes by it.

Source: Amazon S3 API Reference, PutBucketWebsite and RoutingRule; User Guide, "Hosting a static website using Amazon S3".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple, NoReturn
from urllib.parse import quote

from proxy.s3.errors import S3Error
from proxy.s3.escaping import xml_text
from proxy.s3.hosts import plain_host

MAX_RULES = 50
MAX_CONFIGURATION_BYTES = 128 * 1024
_HOST = re.compile(r"[!-~]+")
_NUMBER = re.compile(r"[0-9]{1,9}")
_PROTOCOLS = frozenset({"http", "https"})
_KEY_SAFE = "/!$&'()*+,;=:@-._~"
_REMEMBERED = 64


class Redirect(NamedTuple):
    """Where a routing rule, or the whole website, sends a browser. What is None stays as it was asked for."""

    host: str | None = None
    protocol: str | None = None
    key: str | None = None
    key_prefix: str | None = None  # stands in place of the condition's
    status: int = 301


class Rule(NamedTuple):
    """A routing rule. Without a status it is about the request, with one about what became of it."""

    redirect: Redirect
    prefix: str = ""
    status: int | None = None

    def location(self, key: str, *, protocol: str, host: str) -> str:
        """Return the address to go to instead of the key's on this host."""
        to = self.redirect
        if to.key is not None:
            key = to.key
        elif to.key_prefix is not None:
            key = to.key_prefix + key.removeprefix(self.prefix)
        return f"{to.protocol or protocol}://{to.host or host}/{quote(key, safe=_KEY_SAFE)}"


class Website(NamedTuple):
    """A bucket's website."""

    suffix: str = ""  # of a folder's page
    error_key: str | None = None
    rules: tuple[Rule, ...] = ()
    all_to: Redirect | None = None  # if it is set, the rest is empty

    def rule_for(self, key: str, status: int | None = None) -> Rule | None:
        """Return the first rule about a request for this key, or about the error that came of it."""
        return next((rule for rule in self.rules if rule.status == status and key.startswith(rule.prefix)), None)


def site_of_host(host: str, domains: Sequence[str], website_domains: Sequence[str]) -> str | None:
    """Return the bucket whose website a Host header names, None for any other host. Of the domains that fit the longest counts."""
    name = plain_host(host)
    fitting = [domain.lower() for domain in website_domains if name.endswith(f".{domain.lower()}")]
    domain = max(fitting, key=len, default="")
    ours = (other.lower() for other in domains)
    if not domain or any(len(other) > len(domain) and (name == other or name.endswith(f".{other}")) for other in ours):
        return None
    return name[: -len(domain) - 1] or None


def website_document(configuration: Mapping[str, object]) -> str:
    """Return the text to keep of a configuration, as boto3 names it. InvalidArgument, InvalidRequest or MalformedXML, in S3's words."""
    everything = _part(configuration, "RedirectAllRequestsTo")
    if everything is not None:
        if len(configuration) > 1:
            _refuse_argument(
                "RedirectAllRequestsTo", "not null", "RedirectAllRequestsTo cannot be provided in conjunction with other Routing Rules."
            )
        if not everything.get("HostName"):
            raise S3Error("InvalidRequest", 'A host name must be provided to redirect all requests (e.g. "example.com").')
        _check_place(everything)
    else:
        _check_site(configuration)
    text = json.dumps(configuration, ensure_ascii=False, separators=(",", ":"))
    if len(text.encode()) > MAX_CONFIGURATION_BYTES:
        raise S3Error("MaxMessageLengthExceeded", MaxMessageLengthBytes=MAX_CONFIGURATION_BYTES)
    return text


@lru_cache(_REMEMBERED)
def parse_website(document: str) -> Website:
    """Read what `website_document` wrote."""
    configuration = json.loads(document)
    everything = configuration.get("RedirectAllRequestsTo")
    if everything is not None:
        return Website(all_to=Redirect(host=everything["HostName"], protocol=everything.get("Protocol")))
    return Website(
        suffix=configuration["IndexDocument"]["Suffix"],
        error_key=configuration.get("ErrorDocument", {}).get("Key"),
        rules=tuple(_rule(rule) for rule in configuration.get("RoutingRules", ())),
    )


def error_page(error: S3Error, *, request_id: str, host_id: str, beside: S3Error | None = None) -> bytes:
    """Return the page that tells a person of an error. `beside`: why the website's own page could not be had."""
    title = f"{error.status} {HTTPStatus(error.status).phrase}"
    more = (
        "" if beside is None else f"<h3>An Error Occurred While Attempting to Retrieve a Custom Error Document</h3>\n{_list(_told(beside))}"
    )
    told = _list({**_told(error), "RequestId": request_id, "HostId": host_id})
    return (f"<html>\n<head><title>{title}</title></head>\n<body>\n<h1>{title}</h1>\n{told}{more}<hr/>\n</body>\n</html>\n").encode()


def folder_location(key: str) -> str:
    """Return where the folder of this name is: on this host, though a name that begins with a slash would be read as another host."""
    path = quote(key, safe=_KEY_SAFE)
    return f"/%2F{path[1:]}/" if path.startswith("/") else f"/{path}/"


def _told(error: S3Error) -> dict[str, str]:
    return {"Code": error.code, "Message": error.message, **{name: str(value) for name, value in error.details.items()}}


def _list(items: Mapping[str, str]) -> str:
    return "<ul>\n" + "".join(f"<li>{name}: {xml_text(value)}</li>\n" for name, value in items.items()) + "</ul>\n"


def _rule(rule: Mapping[str, Mapping[str, str]]) -> Rule:
    to, condition = rule["Redirect"], rule.get("Condition", {})
    status = condition.get("HttpErrorCodeReturnedEquals")
    return Rule(
        redirect=Redirect(
            host=to.get("HostName"),
            protocol=to.get("Protocol"),
            key=to.get("ReplaceKeyWith"),
            key_prefix=to.get("ReplaceKeyPrefixWith"),
            status=int(to.get("HttpRedirectCode", 301)),
        ),
        prefix=condition.get("KeyPrefixEquals", ""),
        status=None if status is None else int(status),
    )


def _check_site(configuration: Mapping[str, object]) -> None:
    index = _part(configuration, "IndexDocument")
    if index is None:
        message = "A value for IndexDocument Suffix must be provided if RedirectAllRequestsTo is empty"
        _refuse_argument("IndexDocument", "null", message)
    suffix = str(index["Suffix"])
    if not suffix or "/" in suffix:
        _refuse_argument("IndexDocument", suffix, "The IndexDocument Suffix is not well formed")
    error = _part(configuration, "ErrorDocument")
    if error is not None and not error["Key"]:
        _refuse_argument("ErrorDocument", "", "The ErrorDocument Key is not well formed")
    rules = configuration.get("RoutingRules", [])
    assert isinstance(rules, list)
    if len(rules) > MAX_RULES:
        message = f"{len(rules)} routing rules provided, the number of routing rules in a website configuration is limited to {MAX_RULES}."
        raise S3Error("InvalidRequest", message)
    for rule in rules:
        _check_rule(rule)


def _check_rule(rule: Mapping[str, object]) -> None:
    condition, redirect = _part(rule, "Condition"), _part(rule, "Redirect")
    if not redirect:
        raise S3Error("MalformedXML")
    if condition is not None and not condition:
        message = "Condition cannot be empty. To redirect all requests without a condition, the condition element shouldn't be present."
        raise S3Error("InvalidRequest", message)
    if condition and "HttpErrorCodeReturnedEquals" in condition:
        _check_status("error", condition["HttpErrorCodeReturnedEquals"], range(400, 600), "4XX or 5XX")
    if "HttpRedirectCode" in redirect:
        _check_status("redirect", redirect["HttpRedirectCode"], range(301, 400), "3XX except 300")
    if "ReplaceKeyWith" in redirect and "ReplaceKeyPrefixWith" in redirect:
        raise S3Error("InvalidRequest", "You can only define ReplaceKeyPrefix or ReplaceKey but not both.")
    _check_place(redirect)


def _check_place(redirect: Mapping[str, object]) -> None:
    if "Protocol" in redirect and redirect["Protocol"] not in _PROTOCOLS:
        message = "Invalid protocol, protocol can be http or https. If not defined the protocol will be selected automatically."
        raise S3Error("InvalidRequest", message)
    host = redirect.get("HostName")
    if host == "":
        message = "The HostName cannot be blank. To redirect within the same domain, the element should not be present."
        raise S3Error("InvalidRequest", message)
    if host is not None and not _HOST.fullmatch(str(host)):
        raise S3Error("InvalidRequest", f'The HostName "{host}" is no name of a host.')


def _check_status(kind: str, text: object, valid: range, words: str) -> None:
    if not _NUMBER.fullmatch(str(text)):
        raise S3Error("MalformedXML")
    number = int(str(text))
    if number not in valid or number not in list(HTTPStatus):
        raise S3Error("InvalidRequest", f"The provided HTTP {kind} code ({number}) is not valid. Valid codes are {words}.")


def _part(document: Mapping[str, object], name: str) -> Mapping[str, object] | None:
    value = document.get(name)
    return value if isinstance(value, dict) else None


def _refuse_argument(name: str, value: str, message: str) -> NoReturn:
    raise S3Error("InvalidArgument", message, ArgumentName=name, ArgumentValue=value)
