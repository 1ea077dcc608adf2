"""The body of a request: framing undone, every claim about it checked, at the pace the reader asks for.

A client may vouch for its bytes in several ways at once: the signed SHA-256, Content-MD5, a checksum in a header or in a trailer, and the
chunk signatures of aws-chunked. What the headers say is judged when the body is made, before the client is told to continue.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from binascii import hexlify
from collections.abc import AsyncIterator, Mapping

from aiohttp import StreamReader, web

from proxy.engine.body import Digests
from proxy.manifest.records import Checksum, ChecksumAlgorithm
from proxy.s3.aws_chunked import ChunkedDecoder
from proxy.s3.checksums import Hasher, encode, new_hasher, parse_checksum_headers, parse_content_md5
from proxy.s3.errors import S3Error
from proxy.s3.sigv4 import Claim

MAX_OBJECT_SIZE = 5 * 1024**3  # S3's limit of one PUT or part
MAX_DOCUMENT_SIZE = 2 * 1024**2  # S3 takes XML bodies up to 2 MB or less
DEFAULT_ALGORITHM: ChecksumAlgorithm = "CRC64NVME"  # what S3 computes when the client names none
UNSIGNED = "UNSIGNED-PAYLOAD"
STREAMING = "STREAMING-"
EMPTY_SHA256 = hashlib.sha256().hexdigest()
