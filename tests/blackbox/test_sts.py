"""Temporary credentials: real clients ask for them, and use them."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from tests.blackbox.expect import s3_error
from tests.patience import PATIENCE_SECONDS
from tests.servers import ROOT, Shardgate, shardgate

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

ACCOUNT = "111122223333"
READER = f"arn:aws:iam::{ACCOUNT}:role/reader"


class Issuer:
    """An OpenID Connect provider with two keys."""

    def __init__(self) -> None:
        self.rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.url = ""
        self.fetches = 0

    def document(self, path: str) -> object:
        self.fetches += 1
        if path == "/.well-known/openid-configuration":
            return {"issuer": self.url, "jwks_uri": f"{self.url}/keys", "response_types_supported": ["id_token"]}
        numbers, point = self.rsa.public_key().public_numbers(), self.ec.public_key().public_numbers()
        return {
            "keys": [
                {"kty": "RSA", "kid": "r", "use": "sig", "n": number(numbers.n, 256), "e": number(numbers.e, 3)},
                {"kty": "EC", "crv": "P-256", "kid": "e", "x": number(point.x, 32), "y": number(point.y, 32)},
                {"kty": "oct", "kid": "s", "k": "c2VjcmV0"},
            ]
        }

    def token(self, algorithm: str = "RS256", **claims: object) -> str:
        now = int(time.time())
        said = {"iss": self.url, "sub": "job", "aud": "sts.test", "exp": now + 600, "iat": now, **claims}
        kid = {"RS256": "r", "ES256": "e"}.get(algorithm, "s")
        signed = f"{b64(json.dumps({'alg': algorithm, 'kid': kid}).encode())}.{b64(json.dumps(said).encode())}"
        return f"{signed}.{b64(self._sign(algorithm, signed.encode()))}"

    def _sign(self, algorithm: str, text: bytes) -> bytes:
        if algorithm == "RS256":
            return self.rsa.sign(text, padding.PKCS1v15(), SHA256())
        r, s = decode_dss_signature(self.ec.sign(text, ec.ECDSA(SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def number(value: int, size: int) -> str:
    return b64(value.to_bytes(size, "big"))


@contextmanager
def serving(issuer: Issuer) -> Iterator[None]:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(issuer.document(self.path)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    issuer.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    with serving(made):
        yield made


class Place:
    """A server with a tenant of a known account, and its command line."""

    def __init__(self, server: Shardgate, config: Path, data: Path) -> None:
        self.server = server
        self._config = config
        self._data = data

    def command(self, *arguments: str) -> Any:
        environ = {**os.environ, "SHARDGATE_DATA": str(self._data), "SHARDGATE_CONFIG": str(self._config)}
        command = [sys.executable, "-m", "proxy.cli.main", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environ, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if "--json" in arguments else done.stdout

    def put_role(self, name: str, trust: Mapping[str, object], policy: Mapping[str, object]) -> str:
        paths = []
        for what, statement in (("trust", trust), ("policy", policy)):
            paths.append(self._data / f"{name}-{what}.json")
            paths[-1].write_text(json.dumps({"Version": "2012-10-17", "Statement": statement}))
        return str(self.command("role", "put", "sts", name, "--trust", str(paths[0]), "--policy", str(paths[1]))).strip()

    def client(self, kind: str, keys: Mapping[str, str], **options: Any) -> Any:
        return boto3.client(
            kind,  # type: ignore[call-overload]  # a name that is given
            endpoint_url=self.server.endpoint,
            region_name="us-east-1",
            aws_access_key_id=keys["AccessKeyId"],
            aws_secret_access_key=keys["SecretAccessKey"],
            aws_session_token=keys.get("SessionToken"),
            config=Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"}, **options),
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> Iterator[Place]:
    data = tmp_path_factory.mktemp("sts")
    config = data / "sts.toml"
    config.write_text((ROOT / "config" / "bench.toml").read_text() + f'\n[oidc.ci]\nissuer = "{issuer.url}"\naudiences = ["sts.test"]\n')
    with shardgate(data, config=config) as server:
        made = Place(server, config, data)
        made.command("tenant", "add", "sts", "--access-key", "STSKEY", "--secret-key", "stssecretstssecret", "--account-id", ACCOUNT)
        yield made


ROOT_KEYS = {"AccessKeyId": "STSKEY", "SecretAccessKey": "stssecretstssecret"}
OWN = {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}
READ = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": "*"}


@pytest.fixture(scope="module")
def s3(place: Place) -> S3Client:
    client: S3Client = place.client("s3", ROOT_KEYS)
    client.create_bucket(Bucket="sts-bucket")
    client.put_object(Bucket="sts-bucket", Key="a", Body=b"data")
    return client


@pytest.fixture(scope="module")
def reader(place: Place, s3: S3Client) -> Callable[..., Any]:
    """Take on the role `reader`, which anybody of the account may."""
    assert place.put_role("reader", OWN, READ) == READER

    def assume(**options: Any) -> Any:
        return place.client("sts", ROOT_KEYS).assume_role(RoleArn=READER, RoleSessionName="build-7", **options)

    return assume


def code_of(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    answer = error.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


def test_each_principal_is_told_who_it_is(place: Place, reader: Callable[..., Any]) -> None:
    said = place.client("sts", ROOT_KEYS).get_caller_identity()
    assert (said["Account"], said["Arn"], said["UserId"]) == (ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root", ACCOUNT)
    user = place.command("key", "add", "sts", "--name", "ci", "--json")
    keys = {"AccessKeyId": user["access_key"], "SecretAccessKey": user["secret_key"]}
    assert place.client("sts", keys).get_caller_identity()["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/ci"
    session = place.client("sts", reader()["Credentials"]).get_caller_identity()
    assert session["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/reader/build-7"


def test_the_command_line_of_aws_asks_who_it_is(place: Place, tmp_path: Path) -> None:
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": ROOT_KEYS["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": ROOT_KEYS["SecretAccessKey"],
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = [str(Path(sys.executable).parent / "aws"), "--endpoint-url", place.server.endpoint, "sts", "get-caller-identity"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["Arn"] == f"arn:aws:iam::{ACCOUNT}:root"


def test_a_session_of_a_role_may_what_the_role_may(place: Place, s3: S3Client, reader: Callable[..., Any]) -> None:
    session = place.client("s3", reader()["Credentials"])
    assert session.get_object(Bucket="sts-bucket", Key="a")["Body"].read() == b"data"
    assert [one["Key"] for one in session.list_objects_v2(Bucket="sts-bucket")["Contents"]] == ["a"]
    for attempt in (
        lambda: session.put_object(Bucket="sts-bucket", Key="b", Body=b"x"),
        lambda: session.delete_object(Bucket="sts-bucket", Key="a"),
        lambda: session.list_buckets(),
        lambda: session.create_bucket(Bucket="sts-other"),
    ):
        with s3_error("AccessDenied", 403):
            attempt()


def test_the_policy_of_a_session_narrows_its_role(place: Place, reader: Callable[..., Any]) -> None:
    policy = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*"}}
    session = place.client("s3", reader(Policy=json.dumps(policy))["Credentials"])
    session.list_objects_v2(Bucket="sts-bucket")
    with s3_error("AccessDenied", 403):
        session.get_object(Bucket="sts-bucket", Key="a")
    policy["Statement"] = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    wider = place.client("s3", reader(Policy=json.dumps(policy))["Credentials"])
    with s3_error("AccessDenied", 403):
        wider.put_object(Bucket="sts-bucket", Key="b", Body=b"x")


def test_the_policy_of_a_bucket_may_name_a_role(place: Place, s3: S3Client, reader: Callable[..., Any]) -> None:
    statement = {"Effect": "Allow", "Principal": {"AWS": READER}, "Action": "s3:PutObject", "Resource": "arn:aws:s3:::sts-bucket/open/*"}
    s3.put_bucket_policy(Bucket="sts-bucket", Policy=json.dumps({"Version": "2012-10-17", "Statement": statement}))
    session = place.client("s3", reader()["Credentials"])
    session.put_object(Bucket="sts-bucket", Key="open/b", Body=b"x")
    s3.delete_object(Bucket="sts-bucket", Key="open/b")
    s3.delete_bucket_policy(Bucket="sts-bucket")
    with s3_error("AccessDenied", 403):
        session.put_object(Bucket="sts-bucket", Key="open/b", Body=b"x")


def test_tokens_count_in_urls_and_forms_too(place: Place, s3: S3Client, reader: Callable[..., Any]) -> None:
    keys = reader()["Credentials"]
    for version in ("s3v4", "s3"):
        url = place.client("s3", keys, signature_version=version).generate_presigned_url(
            "get_object", Params={"Bucket": "sts-bucket", "Key": "a"}
        )
        assert urllib.request.urlopen(url).read() == b"data"
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(re.sub("(?i)&?x-amz-security-token=[^&]*", "", url))
        assert caught.value.code == 403
    place.put_role("writer", OWN, {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "*"})
    writer = place.client("sts", ROOT_KEYS).assume_role(RoleArn=READER.replace("reader", "writer"), RoleSessionName="form")["Credentials"]
    for session, status in ((writer, 204), (keys, 403)):
        form = place.client("s3", session, signature_version="s3v4").generate_presigned_post("sts-bucket", "form")
        parts = [*form["fields"].items(), ("file", "bytes")]
        body = "".join(f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in parts) + "--x--\r\n"
        request = urllib.request.Request(form["url"], body.encode(), {"Content-Type": "multipart/form-data; boundary=x"})
        try:
            assert urllib.request.urlopen(request).status == status
        except urllib.error.HTTPError as error:
            assert error.code == status


def test_a_token_is_good_for_its_own_key_alone(place: Place, reader: Callable[..., Any]) -> None:
    mine, other = reader()["Credentials"], reader()["Credentials"]
    mixed = {**mine, "SessionToken": other["SessionToken"]}
    with s3_error("InvalidAccessKeyId", 403):
        place.client("s3", mixed).list_objects_v2(Bucket="sts-bucket")
    with s3_error("InvalidAccessKeyId", 403):
        place.client("s3", {**mine, "SessionToken": None}).list_objects_v2(Bucket="sts-bucket")  # type: ignore[dict-item]
    with s3_error("InvalidAccessKeyId", 403):
        place.client("s3", {**ROOT_KEYS, "SessionToken": mine["SessionToken"]}).list_objects_v2(Bucket="sts-bucket")
    token = mine["SessionToken"]
    forged = token[:-8] + ("A" if token[-8] != "A" else "B") + token[-7:]
    for wrong in (forged, "token", token[:20]):
        with s3_error("InvalidToken", 400):
            place.client("s3", {**mine, "SessionToken": wrong}).list_objects_v2(Bucket="sts-bucket")
    with s3_error("SignatureDoesNotMatch", 403):
        place.client("s3", {**mine, "SecretAccessKey": "wrong"}).list_objects_v2(Bucket="sts-bucket")


def test_a_key_that_is_revoked_ends_its_sessions(place: Place, reader: Callable[..., Any]) -> None:
    made = place.command("key", "add", "sts", "--name", "short", "--json")
    keys = {"AccessKeyId": made["access_key"], "SecretAccessKey": made["secret_key"]}
    token = place.client("sts", keys).get_session_token()["Credentials"]
    role = place.client("sts", keys).assume_role(RoleArn=READER, RoleSessionName="short")["Credentials"]
    for session in (token, role):
        place.client("s3", session).list_objects_v2(Bucket="sts-bucket")
    place.command("key", "revoke", made["access_key"])
    for session in (token, role):
        with s3_error("InvalidToken", 400):
            place.client("s3", session).list_objects_v2(Bucket="sts-bucket")


def test_a_role_that_is_removed_ends_its_sessions(place: Place, s3: S3Client) -> None:
    arn = place.put_role("passing", OWN, READ)
    keys = place.client("sts", ROOT_KEYS).assume_role(RoleArn=arn, RoleSessionName="ab")["Credentials"]
    place.client("s3", keys).list_objects_v2(Bucket="sts-bucket")
    place.command("role", "remove", "sts", "passing")
    with s3_error("InvalidToken", 400):
        place.client("s3", keys).list_objects_v2(Bucket="sts-bucket")


def test_a_token_of_a_limited_key_is_limited_too(place: Place, s3: S3Client) -> None:
    made = place.command("key", "add", "sts", "--read-only", "--json")
    keys = {"AccessKeyId": made["access_key"], "SecretAccessKey": made["secret_key"]}
    session = place.client("s3", place.client("sts", keys).get_session_token(DurationSeconds=900)["Credentials"])
    assert session.get_object(Bucket="sts-bucket", Key="a")["Body"].read() == b"data"
    with s3_error("AccessDenied", 403):
        session.put_object(Bucket="sts-bucket", Key="b", Body=b"x")


def test_who_may_become_a_role_is_for_its_trust_to_say(place: Place, s3: S3Client) -> None:
    named = place.command("key", "add", "sts", "--name", "dave", "--json")
    dave = {"AccessKeyId": named["access_key"], "SecretAccessKey": named["secret_key"]}
    trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:user/dave"}, "Action": "sts:AssumeRole"}
    condition = {"Condition": {"StringEquals": {"sts:ExternalId": "shared"}}}
    arn = place.put_role("daves", {**trust, **condition}, READ)
    place.client("sts", dave).assume_role(RoleArn=arn, RoleSessionName="ab", ExternalId="shared")
    for keys, external in ((dave, "wrong"), (ROOT_KEYS, "shared")):
        with pytest.raises(ClientError) as caught:
            place.client("sts", keys).assume_role(RoleArn=arn, RoleSessionName="ab", ExternalId=external)
        assert code_of(caught) == ("AccessDenied", 403)
    with pytest.raises(ClientError) as caught:
        place.client("sts", ROOT_KEYS).assume_role(RoleArn=f"arn:aws:iam::{ACCOUNT}:role/none", RoleSessionName="ab")
    assert code_of(caught) == ("AccessDenied", 403)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"DurationSeconds": 3601}, "ValidationError"),
        ({"Policy": "{}"}, "MalformedPolicyDocument"),
        ({"Policy": "{" + " " * 2048}, "PackedPolicyTooLarge"),
        ({"Tags": [{"Key": "a", "Value": "b"}, {"Key": "A", "Value": "c"}]}, "ValidationError"),
        ({"Tags": [{"Key": "aws:a", "Value": "b"}]}, "ValidationError"),
        ({"Tags": [{"Key": "a;", "Value": "b"}]}, "ValidationError"),
        ({"Tags": [{"Key": "a", "Value": "b"}], "TransitiveTagKeys": ["c"]}, "ValidationError"),
        ({"Tags": [{"Key": f"k{n}", "Value": ""} for n in range(51)]}, "ValidationError"),
        ({"PolicyArns": [{"arn": "arn:aws:iam::aws:policy/ReadOnlyAccess"}]}, "ValidationError"),
        ({"SerialNumber": "arn:aws:iam::1:mfa/x", "TokenCode": "123456"}, "ValidationError"),
    ],
)
def test_what_cannot_be_given_is_refused(reader: Callable[..., Any], options: dict[str, Any], code: str) -> None:
    with pytest.raises(ClientError) as caught:
        reader(**options)
    assert code_of(caught) == (code, 400)


def test_tags_of_a_session_are_for_policies_to_compare(place: Place, s3: S3Client) -> None:
    trust = {**OWN, "Action": ["sts:AssumeRole", "sts:TagSession"], "Condition": {"StringLike": {"aws:RequestTag/team": "*"}}}
    own_folder = {**READ, "Action": "s3:GetObject", "Resource": "arn:aws:s3:::sts-bucket/${aws:PrincipalTag/Team}/*"}
    arn = place.put_role("tagged", trust, own_folder)
    sts = place.client("sts", ROOT_KEYS)
    for key in ("red/a", "blue/a"):
        s3.put_object(Bucket="sts-bucket", Key=key, Body=b"x")
    keys = sts.assume_role(RoleArn=arn, RoleSessionName="ab", Tags=[{"Key": "Team", "Value": "red"}])["Credentials"]
    member = place.client("s3", keys)
    member.get_object(Bucket="sts-bucket", Key="red/a")
    with pytest.raises(ClientError):
        member.get_object(Bucket="sts-bucket", Key="blue/a")
    for options in ({}, {"Tags": [{"Key": "other", "Value": "red"}]}):
        with pytest.raises(ClientError) as caught:
            sts.assume_role(RoleArn=arn, RoleSessionName="ab", **options)
        assert code_of(caught) == ("AccessDenied", 403)


def test_tags_need_to_be_allowed_by_the_trust(reader: Callable[..., Any]) -> None:
    with pytest.raises(ClientError) as caught:
        reader(Tags=[{"Key": "a", "Value": "b"}])
    assert code_of(caught) == ("AccessDenied", 403)
    assert "sts:TagSession" in str(caught.value)


def test_transitive_tags_go_along_and_cannot_be_changed(place: Place, s3: S3Client) -> None:
    trust = {**OWN, "Action": ["sts:AssumeRole", "sts:TagSession"]}
    mine = {"Condition": {"StringEquals": {"aws:PrincipalTag/team": "red", "aws:PrincipalTag/job": "1"}}}
    second = place.put_role("second", trust, {**READ, **mine})
    first = place.put_role("first", trust, {"Effect": "Allow", "Action": "sts:*", "Resource": second})
    tags = [{"Key": "team", "Value": "red"}, {"Key": "left", "Value": "x"}]
    keys = place.client("sts", ROOT_KEYS).assume_role(RoleArn=first, RoleSessionName="ab", Tags=tags, TransitiveTagKeys=["team"])[
        "Credentials"
    ]
    chained = place.client("sts", keys)
    made = chained.assume_role(RoleArn=second, RoleSessionName="cd", Tags=[{"Key": "job", "Value": "1"}])["Credentials"]
    assert place.client("s3", made).get_object(Bucket="sts-bucket", Key="a")["Body"].read() == b"data"
    with pytest.raises(ClientError) as caught:
        chained.assume_role(RoleArn=second, RoleSessionName="cd", Tags=[{"Key": "Team", "Value": "blue"}])
    assert code_of(caught) == ("ValidationError", 400)


def test_more_tags_than_a_token_holds_are_refused(place: Place) -> None:
    arn = place.put_role("wide", {**OWN, "Action": ["sts:AssumeRole", "sts:TagSession"]}, READ)
    tags = [{"Key": f"k{n}", "Value": secrets.token_hex(128)} for n in range(50)]
    with pytest.raises(ClientError) as caught:
        place.client("sts", ROOT_KEYS).assume_role(RoleArn=arn, RoleSessionName="ab", Tags=tags)
    assert code_of(caught) == ("PackedPolicyTooLarge", 400)


def test_a_presigned_url_shows_who_made_it(place: Place, reader: Callable[..., Any]) -> None:
    for keys, arn in (
        (ROOT_KEYS, f"arn:aws:iam::{ACCOUNT}:root"),
        (reader()["Credentials"], f"arn:aws:sts::{ACCOUNT}:assumed-role/reader/build-7"),
    ):
        url = place.client("sts", keys).generate_presigned_url("get_caller_identity", HttpMethod="GET", ExpiresIn=60)
        assert "Action=GetCallerIdentity" in url
        with urllib.request.urlopen(url) as answer:
            assert f"<Arn>{arn}</Arn>" in answer.read().decode()
        other = url.replace("Action=GetCallerIdentity", "Action=GetSessionToken")
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(other)
        assert caught.value.code == 403
        assert "SignatureDoesNotMatch" in caught.value.read().decode()


def test_a_get_without_a_signature_is_nobodys(place: Place) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{place.server.endpoint}/?Action=GetCallerIdentity&Version=2011-06-15")
    assert (caught.value.code, "MissingAuthenticationToken" in caught.value.read().decode()) == (403, True)


def test_sessions_make_no_tokens_and_only_short_sessions(place: Place, reader: Callable[..., Any]) -> None:
    keys = reader()["Credentials"]
    with pytest.raises(ClientError) as caught:
        place.client("sts", keys).get_session_token()
    assert code_of(caught) == ("AccessDenied", 403)
    with pytest.raises(ClientError) as caught:  # its role may not
        place.client("sts", keys).assume_role(RoleArn=READER, RoleSessionName="chained")
    assert code_of(caught) == ("AccessDenied", 403)


def form_answer(place: Place, **parameters: str) -> tuple[int, str]:
    request = urllib.request.Request(place.server.endpoint, urllib.parse.urlencode(parameters).encode())
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize(
    ("parameters", "status", "code"),
    [
        ({"Action": "GetCallerIdentity"}, 403, "MissingAuthenticationToken"),
        ({"Action": "GetFederationToken"}, 403, "MissingAuthenticationToken"),
        ({"Action": "GetCallerIdentity", "Version": "2010-05-08"}, 400, "InvalidAction"),
        ({"Version": "2011-06-15"}, 400, "MissingAction"),
        ({"Action": "AssumeRoleWithWebIdentity"}, 400, "ValidationError"),
    ],
)
def test_errors_are_told_in_the_service_s_own_form(place: Place, parameters: dict[str, str], status: int, code: str) -> None:
    answer = form_answer(place, **parameters)
    assert answer[0] == status
    assert f"<Code>{code}</Code>" in answer[1]
    assert answer[1].startswith('<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">')


@pytest.fixture(scope="module")
def web(place: Place, issuer: Issuer, s3: S3Client) -> Callable[..., Any]:
    """Take on a role with a web identity whose subject is `job`."""
    provider = issuer.url.partition("://")[2]
    trust = {
        "Effect": "Allow",
        "Principal": {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{provider}"},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {f"{provider}:sub": "job", f"{provider}:aud": "sts.test"}},
    }
    arn = place.put_role("web", trust, READ)
    nobody = place.client("sts", {"AccessKeyId": "x", "SecretAccessKey": "x"})

    def assume(token: str) -> Any:
        return nobody.assume_role_with_web_identity(RoleArn=arn, RoleSessionName="job-1", WebIdentityToken=token)

    return assume


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_web_identity_gets_a_session(place: Place, issuer: Issuer, web: Callable[..., Any], algorithm: str) -> None:
    answer = web(issuer.token(algorithm))
    assert (answer["SubjectFromWebIdentityToken"], answer["Audience"]) == ("job", "sts.test")
    session = place.client("s3", answer["Credentials"])
    assert session.get_object(Bucket="sts-bucket", Key="a")["Body"].read() == b"data"
    with s3_error("AccessDenied", 403):
        session.put_object(Bucket="sts-bucket", Key="b", Body=b"x")


def test_a_web_identity_must_be_whom_the_role_trusts(issuer: Issuer, web: Callable[..., Any]) -> None:
    with pytest.raises(ClientError) as caught:
        web(issuer.token(sub="another"))
    assert code_of(caught) == ("AccessDenied", 403)


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"aud": "another"}, "InvalidIdentityToken"),
        ({"iss": "https://another.example"}, "InvalidIdentityToken"),
        ({"exp": 1}, "ExpiredTokenException"),
        ({"nbf": 4102444800}, "InvalidIdentityToken"),
        ({"sub": ""}, "InvalidIdentityToken"),
    ],
)
def test_a_web_identity_must_be_for_us_and_for_now(issuer: Issuer, web: Callable[..., Any], claims: dict[str, object], code: str) -> None:
    with pytest.raises(ClientError) as caught:
        web(issuer.token(**claims))
    assert code_of(caught) == (code, 400)


def test_a_web_identity_must_be_signed_by_its_issuer(issuer: Issuer, web: Callable[..., Any]) -> None:
    stranger = Issuer()
    stranger.url = issuer.url
    head, claims, signature = issuer.token().split(".")
    none = b64(json.dumps({"alg": "none", "kid": "r"}).encode())
    forged = (f"{head}.{claims}.", f"{none}.{claims}.", f"{head}.{claims}.{signature[:-8]}AAAAAAAA")
    for token in (stranger.token(), *forged, "no token", issuer.token("HS256")):
        with pytest.raises(ClientError) as caught:
            web(token)
        assert code_of(caught) == ("InvalidIdentityToken", 400)


def test_unknown_keys_do_not_make_us_ask_again_and_again(issuer: Issuer, web: Callable[..., Any]) -> None:
    web(issuer.token())
    fetches = issuer.fetches
    for _ in range(5):
        with pytest.raises(ClientError):
            web(issuer.token("HS256"))
    assert issuer.fetches == fetches
