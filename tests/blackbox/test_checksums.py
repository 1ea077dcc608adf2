"""Checksums: what is claimed is checked before anything is visible, and what was checked is told again."""

from __future__ import annotations

import base64
import hashlib
import zlib
from typing import TYPE_CHECKING

import pytest
from awscrt import checksums

from tests.blackbox.expect import MIB, content, s3_error
from tests.blackbox.raw import RawClient

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

BODY = content(100_003)
ALGORITHMS = ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256")  # those that boto3 computes by itself
OTHERS = ("SHA512", "MD5", "XXHASH64", "XXHASH3", "XXHASH128")  # of these it only passes on what it is given


def digest(algorithm: str, data: bytes) -> bytes:
    if algorithm == "CRC32":
        return zlib.crc32(data).to_bytes(4, "big")
    if algorithm == "CRC32C":
        return checksums.crc32c(data).to_bytes(4, "big")
    if algorithm == "CRC64NVME":
        return checksums.crc64nvme(data).to_bytes(8, "big")
    if algorithm.startswith("XXHASH"):
        compute = {"64": checksums.XXHash.compute_xxhash64, "3": checksums.XXHash.compute_xxhash3_64}
        return compute.get(algorithm.removeprefix("XXHASH"), checksums.XXHash.compute_xxhash3_128)(data)
    return hashlib.new(algorithm.lower(), data).digest()


def value(algorithm: str, data: bytes) -> str:
    return base64.b64encode(digest(algorithm, data)).decode()


def composite(algorithm: str, parts: list[bytes]) -> str:
    return f"{value(algorithm, b''.join(digest(algorithm, part) for part in parts))}-{len(parts)}"


def claim(algorithm: str, data: bytes) -> dict[str, str]:
    """Return what makes boto3 send a checksum with its data."""
    return {"ChecksumAlgorithm": algorithm} if algorithm in ALGORITHMS else {f"Checksum{algorithm}": value(algorithm, data)}


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, *OTHERS])
def test_checksum_is_computed_checked_and_told(s3: S3Client, bucket: str, algorithm: str) -> None:
    put = s3.put_object(Bucket=bucket, Key="k", Body=BODY, **claim(algorithm, BODY))  # type: ignore[arg-type]
    assert put[f"Checksum{algorithm}"] == value(algorithm, BODY)  # type: ignore[literal-required]
    for answer in (
        s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED"),
        s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED"),
    ):
        assert answer[f"Checksum{algorithm}"] == value(algorithm, BODY)  # type: ignore[literal-required]
        assert answer["ChecksumType"] == "FULL_OBJECT"
    listed = s3.list_objects_v2(Bucket=bucket)["Contents"][0]
    assert (listed["ChecksumAlgorithm"], listed["ChecksumType"]) == ([algorithm], "FULL_OBJECT")


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, *OTHERS])
def test_wrong_checksum_is_refused_and_nothing_is_visible(raw: RawClient, s3: S3Client, bucket: str, algorithm: str) -> None:
    headers = {f"x-amz-checksum-{algorithm.lower()}": value(algorithm, BODY + b"x")}
    assert raw.request("PUT", f"/{bucket}/k", headers=headers, body=BODY).verdict == (400, "BadDigest")
    with s3_error("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="k")


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, *OTHERS])
def test_malformed_checksum_is_refused(raw: RawClient, bucket: str, algorithm: str) -> None:
    for bad in ("zzz", "AAAA", value(algorithm, BODY)[:-2]):
        answer = raw.request("PUT", f"/{bucket}/k", headers={f"x-amz-checksum-{algorithm.lower()}": bad}, body=BODY)
        assert answer.verdict == (400, "InvalidRequest"), bad


def test_checksums_are_told_only_when_asked_for(plain_s3: S3Client, bucket: str) -> None:
    plain_s3.put_object(Bucket=bucket, Key="k", Body=BODY, ChecksumAlgorithm="SHA256")
    assert "ChecksumSHA256" not in plain_s3.head_object(Bucket=bucket, Key="k")


def test_two_checksums_are_too_many(raw: RawClient, bucket: str) -> None:
    headers = {"x-amz-checksum-crc32": value("CRC32", BODY), "x-amz-checksum-sha256": value("SHA256", BODY)}
    assert raw.request("PUT", f"/{bucket}/k", headers=headers, body=BODY).verdict == (400, "InvalidRequest")


def test_object_without_a_checksum_is_given_crc64nvme(raw: RawClient, s3: S3Client, bucket: str) -> None:
    raw.request("PUT", f"/{bucket}/k", body=BODY)
    assert s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")["ChecksumCRC64NVME"] == value("CRC64NVME", BODY)


def test_content_md5_is_checked(raw: RawClient, s3: S3Client, bucket: str) -> None:
    good = base64.b64encode(hashlib.md5(BODY).digest()).decode()
    wrong = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    assert raw.request("PUT", f"/{bucket}/good", headers={"content-md5": good}, body=BODY).verdict == (200, "")
    assert raw.request("PUT", f"/{bucket}/k", headers={"content-md5": wrong}, body=BODY).verdict == (400, "BadDigest")
    for bad in ("", "zzz", "AAAA", good[:-4]):
        assert raw.request("PUT", f"/{bucket}/k", headers={"content-md5": bad}, body=BODY).verdict == (400, "InvalidDigest"), bad
    with s3_error("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="k")


def test_payload_hash_is_checked(raw: RawClient, s3: S3Client, bucket: str) -> None:
    assert raw.request("PUT", f"/{bucket}/good", body=BODY, payload_hash=hashlib.sha256(BODY).hexdigest()).verdict == (200, "")
    wrong = hashlib.sha256(b"other").hexdigest()
    assert raw.request("PUT", f"/{bucket}/k", body=BODY, payload_hash=wrong).verdict == (400, "XAmzContentSHA256Mismatch")
    with s3_error("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="k")


def test_a_failed_check_leaves_what_was_there(raw: RawClient, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"before")
    raw.request("PUT", f"/{bucket}/k", headers={"x-amz-checksum-crc32": "AAAAAA=="}, body=BODY)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"before"


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "SHA1", "SHA256", *OTHERS])
def test_composite_checksum_of_a_multipart_upload(s3: S3Client, bucket: str, algorithm: str) -> None:
    bodies = [content(5 * MIB, 1), content(1000, 2)]
    created = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm=algorithm)  # type: ignore[arg-type]
    assert (created["ChecksumAlgorithm"], created["ChecksumType"]) == (algorithm, "COMPOSITE")
    upload = created["UploadId"]
    parts = []
    for number, body in enumerate(bodies, 1):
        part = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, Body=body, **claim(algorithm, body))  # type: ignore[arg-type]
        assert part[f"Checksum{algorithm}"] == value(algorithm, body)  # type: ignore[literal-required]
        parts.append({"PartNumber": number, "ETag": part["ETag"], f"Checksum{algorithm}": value(algorithm, body)})
    wrong = [parts[0], {**parts[1], f"Checksum{algorithm}": value(algorithm, b"other")}]
    with s3_error(("InvalidPart", "BadDigest"), 400):
        s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": wrong})  # type: ignore[typeddict-item]
    done = s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": parts})  # type: ignore[typeddict-item]
    assert done[f"Checksum{algorithm}"] == composite(algorithm, bodies)  # type: ignore[literal-required]
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (head[f"Checksum{algorithm}"], head["ChecksumType"]) == (composite(algorithm, bodies), "COMPOSITE")  # type: ignore[literal-required]
    part = s3.head_object(Bucket=bucket, Key="k", PartNumber=2, ChecksumMode="ENABLED")
    assert (part[f"Checksum{algorithm}"], part["ChecksumType"]) == (value(algorithm, bodies[1]), "COMPOSITE")  # type: ignore[literal-required]
    attributes = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ObjectParts", "Checksum"])
    assert attributes["ObjectParts"]["TotalPartsCount"] == 2
    told = composite(algorithm, bodies).removesuffix("-2")
    assert attributes["Checksum"] == {f"Checksum{algorithm}": told, "ChecksumType": "COMPOSITE"}
    assert [(one["PartNumber"], one["Size"], one[f"Checksum{algorithm}"]) for one in attributes["ObjectParts"]["Parts"]] == [  # type: ignore[literal-required]
        (number, len(body), value(algorithm, body)) for number, body in enumerate(bodies, 1)
    ]


def test_every_part_of_a_composite_checksum_must_have_its_own(raw: RawClient, s3: S3Client, plain_s3: S3Client, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm="SHA256")["UploadId"]
    answer = raw.request("PUT", f"/{bucket}/k", [("partNumber", "1"), ("uploadId", upload)], body=BODY)
    assert answer.verdict == (400, "InvalidRequest")
    assert answer.error["Message"] == "Checksum Type mismatch occurred, expected checksum Type: sha256, actual checksum Type: null"
    etag = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=BODY, ChecksumAlgorithm="SHA256")["ETag"]
    options = {"Bucket": bucket, "Key": "k", "UploadId": upload}
    with s3_error("InvalidRequest", 400) as caught:
        s3.complete_multipart_upload(**options, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})  # type: ignore[arg-type]
    assert caught.value.response["Error"]["Message"] == (
        "The upload was created using a sha256 checksum. The complete request must include the checksum for each part. "
        "It was missing for part 1 in the request."
    )
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag, "ChecksumSHA256": value("SHA256", BODY)}]}
    with s3_error("BadDigest", 400):
        s3.complete_multipart_upload(
            **options,  # type: ignore[arg-type]
            MultipartUpload=parts,  # type: ignore[arg-type]
            ChecksumSHA256=composite("SHA256", [BODY]).replace("-1", "-2"),
        )
    done = s3.complete_multipart_upload(**options, MultipartUpload=parts, ChecksumSHA256=composite("SHA256", [BODY]))  # type: ignore[arg-type]
    assert done["ChecksumSHA256"] == composite("SHA256", [BODY])


def test_parts_of_a_full_object_checksum_may_come_without(raw: RawClient, s3: S3Client, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")["UploadId"]
    etag = raw.request("PUT", f"/{bucket}/k", [("partNumber", "1"), ("uploadId", upload)], body=BODY).headers["etag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    options = {"Bucket": bucket, "Key": "k", "UploadId": upload, "MultipartUpload": parts}
    with s3_error("InvalidRequest", 400):  # parts are counted in a COMPOSITE one alone
        s3.complete_multipart_upload(**options, ChecksumCRC32=f"{value('CRC32', BODY)}-1")  # type: ignore[arg-type]
    assert s3.complete_multipart_upload(**options)["ChecksumCRC32"] == value("CRC32", BODY)  # type: ignore[arg-type]


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME"])
def test_full_object_checksum_of_a_multipart_upload(s3: S3Client, bucket: str, algorithm: str) -> None:
    bodies = [content(5 * MIB, 1), content(1000, 2)]
    whole = value(algorithm, b"".join(bodies))
    created = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm=algorithm, ChecksumType="FULL_OBJECT")  # type: ignore[arg-type]
    upload = created["UploadId"]
    parts = []
    for number, body in enumerate(bodies, 1):
        part = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, Body=body, ChecksumAlgorithm=algorithm)  # type: ignore[arg-type]
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    options = {"Bucket": bucket, "Key": "k", "UploadId": upload, "MultipartUpload": {"Parts": parts}, "ChecksumType": "FULL_OBJECT"}
    with s3_error("BadDigest", 400):
        s3.complete_multipart_upload(**options, **{f"Checksum{algorithm}": value(algorithm, b"other")})  # type: ignore[arg-type]
    done = s3.complete_multipart_upload(**options, **{f"Checksum{algorithm}": whole})  # type: ignore[arg-type]
    assert (done[f"Checksum{algorithm}"], done["ChecksumType"]) == (whole, "FULL_OBJECT")  # type: ignore[literal-required]
    assert s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")[f"Checksum{algorithm}"] == whole  # type: ignore[literal-required]


@pytest.mark.parametrize("algorithm", ["SHA1", "SHA256", *OTHERS])
def test_what_is_no_crc_has_no_full_object_form_in_parts(s3: S3Client, bucket: str, algorithm: str) -> None:
    with s3_error("InvalidRequest", 400):
        s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm=algorithm, ChecksumType="FULL_OBJECT")  # type: ignore[arg-type]


@pytest.mark.parametrize("algorithm", OTHERS)
def test_checksum_comes_in_a_trailer(raw: RawClient, s3: S3Client, bucket: str, algorithm: str) -> None:
    for told, verdict in ((value(algorithm, b"other"), (400, "BadDigest")), (value(algorithm, BODY), (200, ""))):
        body = b"%x\r\n%s\r\n0\r\nx-amz-checksum-%s:%s\r\n\r\n" % (len(BODY), BODY, algorithm.lower().encode(), told.encode())
        headers = {
            "x-amz-trailer": f"x-amz-checksum-{algorithm.lower()}",
            "x-amz-decoded-content-length": str(len(BODY)),
            "content-encoding": "aws-chunked",
        }
        answer = raw.request("PUT", f"/{bucket}/k", headers=headers, body=body, payload_hash="STREAMING-UNSIGNED-PAYLOAD-TRAILER")
        assert answer.verdict == verdict
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert head[f"Checksum{algorithm}"] == value(algorithm, BODY)  # type: ignore[literal-required]


@pytest.mark.parametrize("algorithm", OTHERS)
def test_a_copy_may_have_another_checksum(s3: S3Client, bucket: str, algorithm: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=BODY)
    copied = s3.copy_object(Bucket=bucket, Key="b", CopySource=f"{bucket}/a", ChecksumAlgorithm=algorithm)["CopyObjectResult"]  # type: ignore[arg-type]
    assert (copied[f"Checksum{algorithm}"], copied["ChecksumType"]) == (value(algorithm, BODY), "FULL_OBJECT")  # type: ignore[literal-required]
    attributes = s3.get_object_attributes(Bucket=bucket, Key="b", ObjectAttributes=["Checksum", "ObjectSize"])
    assert attributes["Checksum"] == {f"Checksum{algorithm}": value(algorithm, BODY), "ChecksumType": "FULL_OBJECT"}
    upload = s3.create_multipart_upload(Bucket=bucket, Key="c", ChecksumAlgorithm=algorithm)["UploadId"]  # type: ignore[arg-type]
    part = s3.upload_part_copy(Bucket=bucket, Key="c", UploadId=upload, PartNumber=1, CopySource=f"{bucket}/a")["CopyPartResult"]
    assert part[f"Checksum{algorithm}"] == value(algorithm, BODY)  # type: ignore[literal-required]
    listed = s3.list_parts(Bucket=bucket, Key="c", UploadId=upload)
    assert (listed["ChecksumAlgorithm"], listed["ChecksumType"]) == (algorithm, "COMPOSITE")
    assert listed["Parts"][0][f"Checksum{algorithm}"] == value(algorithm, BODY)  # type: ignore[literal-required]


def test_crc64nvme_has_no_composite_form(s3: S3Client, bucket: str) -> None:
    with s3_error("InvalidRequest", 400):
        s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm="CRC64NVME", ChecksumType="COMPOSITE")


def test_wrong_part_checksum_is_refused(raw: RawClient, s3: S3Client, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm="CRC32C")["UploadId"]
    headers = {"x-amz-checksum-crc32c": value("CRC32C", b"other")}
    query = [("partNumber", "1"), ("uploadId", upload)]
    assert raw.request("PUT", f"/{bucket}/k", query, headers, body=BODY).verdict == (400, "BadDigest")
    assert "Parts" not in s3.list_parts(Bucket=bucket, Key="k", UploadId=upload)


def test_delete_objects_checks_its_document(raw: RawClient, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    body = b"<Delete><Object><Key>k</Key></Object></Delete>"
    wrong = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    assert raw.request("POST", f"/{bucket}", [("delete", "")], {"content-md5": wrong}, body).verdict == (400, "BadDigest")
    assert raw.request("POST", f"/{bucket}", [("delete", "")], {"x-amz-checksum-crc32": "AAAAAA=="}, body).verdict == (400, "BadDigest")
    assert s3.head_object(Bucket=bucket, Key="k")
