"""The largest files that forms may bring, as far as arithmetic goes: nobody sends 5 GiB here."""

from __future__ import annotations

import pytest

from proxy.s3.claim import ANONYMOUS_CLAIM
from proxy.s3.errors import S3Error
from proxy.s3.forms.parser import MAX_FORM_BYTES, FormParser
from proxy.server.body import MAX_UPLOAD_SIZE
from proxy.server.browsers.forms import FormBody, Upload

END = 60  # of a form: the boundary, and line ends


class Nothing:
    """A connection whose bytes are never read."""

    async def read(self) -> bytes:
        raise AssertionError("nothing is read")


def body(left_bytes: int, sizes: tuple[int, int] = (0, MAX_UPLOAD_SIZE)) -> FormBody:
    upload = Upload(Nothing(), FormParser(b"b"), (), left_bytes=left_bytes)
    return FormBody(upload, {}, ANONYMOUS_CLAIM, sizes=sizes)


def test_a_file_of_five_gib_is_taken() -> None:
    taken = body(MAX_UPLOAD_SIZE + END)
    assert taken.sure_bytes <= MAX_UPLOAD_SIZE
    assert taken.size_bytes == MAX_UPLOAD_SIZE + END


@pytest.mark.parametrize(
    ("left", "sizes"),
    [
        (MAX_UPLOAD_SIZE + MAX_FORM_BYTES + 1, (0, MAX_UPLOAD_SIZE)),
        (MAX_UPLOAD_SIZE + MAX_FORM_BYTES + 1, (0, 6 * 1024**3)),
        (1001 + MAX_FORM_BYTES, (0, 1000)),
    ],
)
def test_a_file_that_is_surely_too_large_is_refused_before_it_comes(left: int, sizes: tuple[int, int]) -> None:
    with pytest.raises(S3Error) as refused:
        body(left, sizes)
    assert refused.value.code == "EntityTooLarge"


@pytest.mark.parametrize(("size", "taken"), [(MAX_UPLOAD_SIZE, True), (MAX_UPLOAD_SIZE + 1, False)])
async def test_the_end_of_the_file_decides(monkeypatch: pytest.MonkeyPatch, size: int, taken: bool) -> None:
    async def settle(_upload: Upload) -> int:
        return size

    monkeypatch.setattr(Upload, "settle", settle)
    found = body(size + END)
    if taken:
        await found.settle()
        assert found.size_bytes == size
    else:
        with pytest.raises(S3Error) as refused:
            await found.settle()
        assert (refused.value.code, refused.value.details["ProposedSize"]) == ("EntityTooLarge", size)
