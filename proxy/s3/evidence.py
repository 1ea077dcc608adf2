"""Evidence: a claim and what proves it, wherever a request has it: in a header, in its query, or among the fields of a form.

Each place has its own words and its own text to sign. The code that checks a sender need not know them: it looks up the access key of the
claim, and verifies the evidence with its keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from proxy.s3 import sigv2, sigv4
from proxy.s3.claim import Claim, parse_authorization, parse_service_authorization
from proxy.s3.forms.claim import check_region, claim_of_form, verify_version_2, verify_version_4
from proxy.s3.shape import Shape


class Keys(Protocol):
    """What one access key signs with."""

    def secret(self) -> str:
        """Return the secret access key: version 2 signs with it."""
        ...

    def signing_key(self, date: str, region: str, service: str = "s3") -> bytes:
        """Return the key derived from it that signs a day's requests to a region's service: version 4."""
        ...


class Evidence(Struct, frozen=True):
    """A claim, and the proof to be asked for. `prove` raises S3Error unless the keys are those that signed, in time and for here."""

    claim: Claim
    prove: Callable[[Keys], None]


class Place(Struct, frozen=True):
    """When and where a claim is judged. A signature may be for our region, or for any of the other names that clients take for one."""

    now_ms: int
    region: str
    other_regions: frozenset[str] = frozenset()


def evidence_of_request(
    method: str, raw_path: str, query: Sequence[tuple[str, str]], headers: Mapping[str, str], *, resource: str, place: Place
) -> Evidence | None:
    """Return what header or query claim; None of an anonymous request.

    `resource` is the path with the bucket before it, as version 2 signs it.
    """
    version_2 = sigv2.parse_presigned(query, place.now_ms) if "authorization" not in headers else None
    if version_2 is not None:
        return Evidence(
            version_2,
            lambda keys: sigv2.verify_presigned(version_2, keys.secret(), method=method, resource=resource, query=query, headers=headers),
        )
    claim = parse_authorization(headers, query)
    if claim is None:
        return None

    def prove(keys: Keys) -> None:
        _check_region(claim, place)
        sigv4.check_time(claim, place.now_ms)
        sigv4.verify(claim, keys.signing_key(claim.date, claim.region), method=method, raw_path=raw_path, query=query, headers=headers)

    return Evidence(claim, prove)


def evidence_of_shape(shape: Shape, raw_path: str, headers: Mapping[str, str], place: Place) -> Evidence:
    """As `evidence_of_request`, of a head that has a shape: what is the same in all of them was checked of the first."""
    claim = shape.claim(headers)

    def prove(keys: Keys) -> None:
        _check_region(claim, place)
        sigv4.check_time(claim, place.now_ms)
        key = keys.signing_key(claim.date, claim.region)
        sigv4.prove(claim, key, shape.canonical_request(raw_path, headers, claim.payload_hash))

    return Evidence(claim, prove)


def evidence_of_form(fields: Mapping[str, str], place: Place) -> Evidence | None:
    """Return what the fields of a form claim, by lower-case name; None of an anonymous one.

    What is signed is the policy. How long it is good, and whether the form keeps to it, is for the reader of the policy to say.
    """
    claim = claim_of_form(fields, place.now_ms)
    if claim is None:
        return None
    policy = fields["policy"]

    def prove(keys: Keys) -> None:
        if "x-amz-credential" not in fields:
            verify_version_2(claim, keys.secret(), policy)
            return
        check_region(claim, place.region, place.other_regions, credential=fields["x-amz-credential"])
        verify_version_4(claim, keys.signing_key(claim.date, claim.region), policy)

    return Evidence(claim, prove)


def evidence_of_service(
    method: str, query: Sequence[tuple[str, str]], headers: Mapping[str, str], body: bytes, *, service: str, place: Place
) -> Evidence | None:
    """Return what the header or the query of a request to another service claims; None of an anonymous request."""
    claim = parse_service_authorization(headers, query, service=service, payload_hash=hashlib.sha256(body).hexdigest())
    if claim is None:
        return None

    def prove(keys: Keys) -> None:
        _check_region(claim, place)
        sigv4.check_time(claim, place.now_ms)
        key = keys.signing_key(claim.date, claim.region, service)
        sigv4.verify(claim, key, method=method, raw_path="/", query=query, headers=headers)

    return Evidence(claim, prove)


def _check_region(claim: Claim, place: Place) -> None:
    if claim.region != place.region and claim.region not in place.other_regions:
        sigv4.check_region(claim, place.region)
