"""Websites: what a configuration may say, and where a request goes by it."""

from __future__ import annotations

import json

import pytest

from proxy.s3.errors import S3Error
from proxy.s3.website import Website, error_page, folder_location, parse_website, site_of_host, website_document

INDEX = {"IndexDocument": {"Suffix": "index.html"}}


def rule(redirect: dict[str, str], **condition: str) -> dict[str, object]:
    return {"Redirect": redirect, "Condition": condition} if condition else {"Redirect": redirect}


def site(*rules: dict[str, object]) -> Website:
    return parse_website(website_document({**INDEX, "RoutingRules": list(rules)}))


@pytest.mark.parametrize(
    ("configuration", "code", "words"),
    [
        ({}, "InvalidArgument", "A value for IndexDocument Suffix must be provided if RedirectAllRequestsTo is empty"),
        ({"IndexDocument": {"Suffix": ""}}, "InvalidArgument", "The IndexDocument Suffix is not well formed"),
        ({"IndexDocument": {"Suffix": "a/b"}}, "InvalidArgument", "The IndexDocument Suffix is not well formed"),
        ({**INDEX, "ErrorDocument": {"Key": ""}}, "InvalidArgument", "The ErrorDocument Key is not well formed"),
        (
            {**INDEX, "RedirectAllRequestsTo": {"HostName": "a"}},
            "InvalidArgument",
            "RedirectAllRequestsTo cannot be provided in conjunction",
        ),
        ({"RedirectAllRequestsTo": {"HostName": ""}}, "InvalidRequest", "A host name must be provided to redirect all requests"),
        ({"RedirectAllRequestsTo": {"HostName": "a\r\nb"}}, "InvalidRequest", "is no name of a host"),
        (
            {"RedirectAllRequestsTo": {"HostName": "a", "Protocol": "ftp"}},
            "InvalidRequest",
            "Invalid protocol, protocol can be http or https",
        ),
        ({**INDEX, "RoutingRules": [rule({"HostName": "a"})] * 51}, "InvalidRequest", "51 routing rules provided"),
        ({**INDEX, "ErrorDocument": {"Key": "k" * 2**17}}, "MaxMessageLengthExceeded", "Your request was too big."),
    ],
)
def test_a_configuration_that_s3_refuses_is_refused_in_its_words(configuration: dict[str, object], code: str, words: str) -> None:
    with pytest.raises(S3Error) as caught:
        website_document(configuration)
    assert caught.value.code == code
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"Redirect": {}}, "MalformedXML"),
        ({"Redirect": {"HostName": "a"}, "Condition": {}}, "InvalidRequest"),
        (rule({"HostName": ""}), "InvalidRequest"),
        (rule({"Protocol": "HTTP"}), "InvalidRequest"),
        (rule({"HttpRedirectCode": "300"}), "InvalidRequest"),
        (rule({"HttpRedirectCode": "314"}), "InvalidRequest"),
        (rule({"HttpRedirectCode": "404"}), "InvalidRequest"),
        (rule({"HttpRedirectCode": "x"}), "MalformedXML"),
        (rule({"ReplaceKeyWith": "a", "ReplaceKeyPrefixWith": "b"}), "InvalidRequest"),
        (rule({"HostName": "a"}, HttpErrorCodeReturnedEquals="302"), "InvalidRequest"),
        (rule({"HostName": "a"}, HttpErrorCodeReturnedEquals="4xx"), "MalformedXML"),
    ],
)
def test_a_rule_that_s3_refuses_is_refused(wrong: dict[str, object], code: str) -> None:
    with pytest.raises(S3Error) as caught:
        site(rule({"HostName": "fine"}), wrong)
    assert caught.value.code == code


def test_what_is_kept_is_what_was_put() -> None:
    configuration = {**INDEX, "ErrorDocument": {"Key": "e\u00fc.html"}, "RoutingRules": [rule({"ReplaceKeyWith": ""}, KeyPrefixEquals="a")]}
    assert json.loads(website_document(configuration)) == configuration


@pytest.mark.parametrize(
    ("redirect", "key", "location"),
    [
        ({"HostName": "x.test"}, "docs/a b", "http://x.test/docs/a%20b"),
        ({"Protocol": "https"}, "docs/a", "https://h/docs/a"),
        ({"ReplaceKeyWith": "\u00fc.html"}, "docs/a", "http://h/%C3%BC.html"),
        ({"ReplaceKeyPrefixWith": "documents/"}, "docs/a/docs/b", "http://h/documents/a/docs/b"),
        ({"ReplaceKeyPrefixWith": ""}, "docs/a", "http://h/a"),
        ({"ReplaceKeyWith": "a\r\nb?c#d"}, "docs/a", "http://h/a%0D%0Ab%3Fc%23d"),
    ],
)
def test_a_rule_says_what_of_an_address_changes(redirect: dict[str, str], key: str, location: str) -> None:
    found = site(rule(redirect, KeyPrefixEquals="docs/")).rule_for(key)
    assert found is not None
    assert found.location(key, protocol="http", host="h") == location


def test_rules_are_about_a_request_or_about_its_failure_and_the_first_counts() -> None:
    website = site(
        rule({"HttpRedirectCode": "302"}, KeyPrefixEquals="a/", HttpErrorCodeReturnedEquals="404"),
        rule({"HttpRedirectCode": "303"}, KeyPrefixEquals="a/"),
        rule({"HttpRedirectCode": "307"}, HttpErrorCodeReturnedEquals="404"),
    )

    def status(key: str, error: int | None = None) -> int | None:
        found = website.rule_for(key, error)
        return None if found is None else found.redirect.status

    assert [status("a/b"), status("b"), status("a/b", 404), status("b", 404), status("b", 403)] == [303, None, 302, 307, None]
    always = site(rule({"HostName": "a"})).rule_for("any")
    assert always is not None
    assert always.redirect.status == 301


@pytest.mark.parametrize(
    ("host", "bucket"),
    [
        ("b.web.test", "b"),
        ("B.Web.Test:8080", "b"),
        ("www.example.org.web.test", "www.example.org"),
        ("web.test", None),
        ("b.s3.test", None),
        ("b.s3.web.test", None),
        ("s3.web.test", None),
        ("b.a.s3.web.test", "b"),
        ("webxtest", None),
        ("", None),
    ],
)
def test_a_host_names_a_website_below_a_website_domain(host: str, bucket: str | None) -> None:
    assert site_of_host(host, ("s3.test", "s3.web.test"), ("web.test", "a.s3.web.test")) == bucket


def test_an_error_page_tells_of_the_error_and_of_the_page_that_could_not_be_had() -> None:
    missing = S3Error("NoSuchKey", Key="<script>&")
    page = error_page(missing, request_id="R", host_id="H").decode()
    assert "<title>404 Not Found</title>" in page
    assert "<li>Key: &lt;script&gt;&amp;</li>" in page
    assert "<li>RequestId: R</li>" in page
    assert "Custom Error Document" not in page
    both = error_page(missing, request_id="R", host_id="H", beside=S3Error("AccessDenied")).decode()
    assert both.index("Custom Error Document") < both.index("<li>Code: AccessDenied</li>")


def test_a_folder_is_an_address_with_a_slash_behind_it() -> None:
    assert folder_location("a b/c") == "/a%20b/c/"
    assert folder_location("/other.example") == "/%2Fother.example/"
