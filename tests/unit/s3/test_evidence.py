"""Evidence: one way to check a sender, wherever in the request the claim is. Signed by botocore."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

import pytest
from botocore.auth import HmacV1PostAuth, HmacV1QueryAuth, S3SigV4Auth, S3SigV4PostAuth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from proxy.clock import SystemClock
from proxy.s3.errors import S3Error
from proxy.s3.evidence import Evidence, Place, evidence_of_form, evidence_of_request
from proxy.s3.sigv4 import signing_key

Source = Callable[[Place], Evidence | None]
ACCESS_KEY, SECRET, REGION = "access", "secret", "eu-west-1"


class Secrets(NamedTuple):
    """The keys of one secret."""

    text: str = SECRET

    def secret(self) -> str:
        return self.text

    def signing_key(self, date: str, region: str) -> bytes:
        return signing_key(self.text, date, region)


def place(*, region: str = REGION, other_regions: frozenset[str] = frozenset(), later_ms: int = 0) -> Place:
    return Place(SystemClock().now_ms() + later_ms, region, other_regions)


def of_header(at: Place) -> Evidence | None:
    return _of_request(S3SigV4Auth(Credentials(ACCESS_KEY, SECRET), "s3", REGION), at)


def of_query(at: Place) -> Evidence | None:
    return _of_request(S3SigV4QueryAuth(Credentials(ACCESS_KEY, SECRET), "s3", REGION, expires=60), at)


def of_query_2(at: Place) -> Evidence | None:
    return _of_request(HmacV1QueryAuth(Credentials(ACCESS_KEY, SECRET), expires=60), at)


def fields_4(token: str | None = None) -> dict[str, str]:
    request = AWSRequest("POST", "http://h/bucket")
    S3SigV4PostAuth(Credentials(ACCESS_KEY, SECRET, token), "s3", REGION).add_auth(request)
    return dict(request.context["s3-presign-post-fields"])


def fields_2(token: str | None = None) -> dict[str, str]:
    request = AWSRequest("POST", "http://h/bucket")
    HmacV1PostAuth(Credentials(ACCESS_KEY, SECRET, token)).add_auth(request)
    return {name.lower(): value for name, value in request.context["s3-presign-post-fields"].items()}


def of_form_4(at: Place) -> Evidence | None:
    return evidence_of_form(fields_4(), at)


def of_form_2(at: Place) -> Evidence | None:
    return evidence_of_form(fields_2(), at)


def _of_request(signer: S3SigV4Auth | HmacV1QueryAuth, at: Place) -> Evidence | None:
    request = AWSRequest("GET", "http://h/bucket/k")
    signer.add_auth(request)
    prepared = request.prepare()
    parts = urlsplit(prepared.url)
    headers = {"host": "h"} | {
        name.lower(): value.decode() if isinstance(value, bytes) else value for name, value in prepared.headers.items()
    }
    headers.pop("date", None)
    return evidence_of_request("GET", parts.path, parse_qsl(parts.query), headers, resource=parts.path, place=at)


VERSION_4 = (of_header, of_query, of_form_4)
SOURCES = (*VERSION_4, of_query_2, of_form_2)


@pytest.mark.parametrize("source", SOURCES)
def test_the_keys_that_signed_prove_it_and_others_do_not(source: Source) -> None:
    evidence = source(place())
    assert evidence is not None
    assert evidence.claim.access_key == ACCESS_KEY
    evidence.prove(Secrets())
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        evidence.prove(Secrets("other"))


@pytest.mark.parametrize("source", VERSION_4)
def test_a_signature_is_for_one_region_or_another_name_of_it(source: Source) -> None:
    elsewhere = source(place(region="us-east-1"))
    assert elsewhere is not None
    with pytest.raises(S3Error) as caught:
        elsewhere.prove(Secrets())
    assert caught.value.details["Region"] == "us-east-1"
    named = source(place(region="us-east-1", other_regions=frozenset({REGION})))
    assert named is not None
    named.prove(Secrets())


@pytest.mark.parametrize(("source", "code"), [(of_header, "RequestTimeTooSkewed"), (of_query, "AccessDenied")])
def test_a_signature_has_its_time(source: Source, code: str) -> None:
    late = source(place(later_ms=16 * 60 * 1000))
    assert late is not None
    with pytest.raises(S3Error, match=code):
        late.prove(Secrets())


def test_who_claims_nothing_is_nobody() -> None:
    assert evidence_of_request("GET", "/", [], {"host": "h"}, resource="/", place=place()) is None
    assert evidence_of_form({"key": "k", "policy": "cA=="}, place()) is None


@pytest.mark.parametrize("fields", [fields_4(), fields_2()])
def test_a_form_says_all_or_nothing_and_its_policy_is_what_is_signed(fields: Mapping[str, str]) -> None:
    for name in fields:
        with pytest.raises(S3Error, match="InvalidArgument"):
            evidence_of_form({key: value for key, value in fields.items() if key != name}, place())
    changed = evidence_of_form({**fields, "policy": fields["policy"] + "A"}, place())
    assert changed is not None
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        changed.prove(Secrets())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-amz-algorithm", "AWS4-ECDSA-P256-SHA256"),
        ("x-amz-credential", "a/b/c"),
        ("x-amz-credential", f"{ACCESS_KEY}/20200101/{REGION}/s3/aws4_request"),
        ("x-amz-date", "yesterday"),
    ],
)
def test_a_malformed_field_is_refused(name: str, value: str) -> None:
    with pytest.raises(S3Error) as caught:
        evidence_of_form({**fields_4(), name: value}, place())
    assert (caught.value.code, caught.value.status) == ("InvalidArgument", 400)


@pytest.mark.parametrize("fields", [fields_4("token"), fields_2("token")])
def test_a_form_claims_its_session_token(fields: Mapping[str, str]) -> None:
    evidence = evidence_of_form(fields, place())
    assert evidence is not None
    assert evidence.claim.security_token == "token"
    evidence.prove(Secrets())
