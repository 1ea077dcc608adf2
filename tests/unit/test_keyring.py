from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.codec.footer import Footer, pack_footer, parse_footer
from proxy.codec.format import shard_name
from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.codec.segment import SegmentKeys
from proxy.codec.sharing import key_sharing
from proxy.errors import ConfigError, KeyUnavailable, ShardMismatch
from proxy.keyring import Keyring, TenantCipher
from proxy.keyring.file import FileRootKey, open_root_key_file

TENANT_ID = "6f8a4a2e-0d6c-4a51-9a59-0a6c0f1d2b3c"
OTHER_ID = "11111111-2222-4333-8444-555555555555"


@dataclass(frozen=True)
class Holder:
    id: str
    wrapped_key: bytes


@pytest.fixture
def root_key(tmp_path: Path) -> Path:
    path = tmp_path / "keys" / "root.key"
    open_root_key_file(path, create=True)
    return path


def test_a_root_key_is_made_once_and_private(root_key: Path) -> None:
    text = root_key.read_text()
    assert root_key.stat().st_mode & 0o777 == 0o600
    assert text.startswith("shardgate-root-key-v1:")
    assert open_root_key_file(root_key, create=True).id == open_root_key_file(root_key, create=False).id
    assert root_key.read_text() == text
    assert list(root_key.parent.iterdir()) == [root_key]


def test_processes_that_start_together_agree_on_one_root_key(tmp_path: Path) -> None:
    path = tmp_path / "root.key"
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: open_root_key_file(path, create=True), range(8)))
    assert len({key.id for key in keys}) == 1


def test_the_id_does_not_give_the_key_away(root_key: Path) -> None:
    assert open_root_key_file(root_key, create=False).id.removeprefix("file:") not in root_key.read_text()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_root_key_open_to_others_is_refused(root_key: Path, mode: int) -> None:
    root_key.chmod(mode)
    with pytest.raises(ConfigError, match=r"root_key\.path: .*chmod 600"):
        open_root_key_file(root_key, create=True)


def test_a_root_key_is_not_made_unasked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"root_key\.path: cannot read .*create = true"):
        open_root_key_file(tmp_path / "none", create=False)


def test_no_root_key_is_made_beside_what_another_has_wrapped(tmp_path: Path) -> None:
    path = tmp_path / "root.key"
    with pytest.raises(ConfigError, match=r"root_key\.path: cannot read .*; root key file:abc has wrapped .* put its file back"):
        open_root_key_file(path, create=True, expected={"file:abc"})
    assert not path.exists()


def test_the_root_key_that_is_expected_is_opened_and_no_other(root_key: Path) -> None:
    key = open_root_key_file(root_key, create=False)
    assert open_root_key_file(root_key, create=True, expected={key.id}).id == key.id
    with pytest.raises(ConfigError, match=rf"holds root key {key.id}, but root key file:abc has wrapped the tenants' keys"):
        open_root_key_file(root_key, create=True, expected={"file:abc"})


@pytest.mark.parametrize(
    "text", ["", "shardgate-root-key-v1:", "shardgate-root-key-v1:AAAA", "shardgate-root-key-v2:" + "A" * 43 + "=", "é"]
)
def test_what_is_no_root_key_is_refused(root_key: Path, text: str) -> None:
    root_key.write_text(text)
    with pytest.raises(ConfigError, match=r"root_key\.path"):
        open_root_key_file(root_key, create=True)


def test_a_tenant_key_opens_again_after_a_restart(root_key: Path) -> None:
    first = Keyring(open_root_key_file(root_key, create=False))
    root_key_id, wrapped = first.new_tenant_key(TENANT_ID)
    sealed = first.tenant_cipher(Holder(TENANT_ID, wrapped)).seal_secret("s3cr3t")

    second = Keyring(open_root_key_file(root_key, create=False))

    assert root_key_id == open_root_key_file(root_key, create=False).id
    assert second.tenant_cipher(Holder(TENANT_ID, wrapped)).open_secret(sealed) == "s3cr3t"


def test_a_cipher_is_made_once_a_tenant(root_key: Path) -> None:
    keyring = Keyring(open_root_key_file(root_key, create=False))
    holder = Holder(TENANT_ID, keyring.new_tenant_key(TENANT_ID)[1])
    assert keyring.tenant_cipher(holder) is keyring.tenant_cipher(Holder(TENANT_ID, holder.wrapped_key))


def test_another_root_key_opens_no_tenant_key() -> None:
    wrapped = Keyring(FileRootKey(bytes(32))).new_tenant_key(TENANT_ID)[1]
    with pytest.raises(KeyUnavailable, match="sealed under another key"):
        Keyring(FileRootKey(b"\1" * 32)).tenant_cipher(Holder(TENANT_ID, wrapped))


def test_a_tenant_key_moved_to_another_tenant_does_not_open() -> None:
    keyring = Keyring(FileRootKey(bytes(32)))
    wrapped = keyring.new_tenant_key(TENANT_ID)[1]
    with pytest.raises(KeyUnavailable):
        keyring.tenant_cipher(Holder(OTHER_ID, wrapped))


@pytest.mark.parametrize("wrapped", [b"", bytes(5), bytes(24), bytes(39), bytes(60)])
def test_a_tenant_key_cut_short_does_not_open(wrapped: bytes) -> None:
    with pytest.raises(KeyUnavailable):
        Keyring(FileRootKey(bytes(32))).tenant_cipher(Holder(TENANT_ID, wrapped))


def test_data_keys_are_fresh_and_wrapped_each_under_a_key_of_its_own() -> None:
    cipher = TenantCipher(TENANT_ID, bytes(32))
    drawn = [cipher.new_data_key() for _ in range(100)]
    assert len({key for key, _ in drawn}) == len({wrapped[:24] for _, wrapped in drawn}) == 100
    assert all(len(key) == 32 and len(wrapped) == 72 and cipher.unwrap(wrapped) == key for key, wrapped in drawn)


@given(secret=st.text(max_size=100))
def test_a_secret_is_sealed_with_40_bytes_more_and_never_the_same_way_twice(secret: str) -> None:
    cipher = TenantCipher(TENANT_ID, bytes(32))
    sealed = cipher.seal_secret(secret)
    assert cipher.open_secret(sealed) == secret
    assert len(sealed) == len(secret.encode()) + 40
    assert cipher.seal_secret(secret) != sealed


@given(position=st.integers(0, 71), flip=st.integers(1, 255))
def test_a_wrapped_data_key_changed_anywhere_does_not_open(position: int, flip: int) -> None:
    cipher = TenantCipher(TENANT_ID, bytes(32))
    forged = bytearray(cipher.new_data_key()[1])
    forged[position] ^= flip
    with pytest.raises(KeyUnavailable):
        cipher.unwrap(bytes(forged))


@pytest.mark.parametrize("size", [0, 7, 23, 24, 39, 40, 60])
def test_what_is_cut_short_does_not_open(size: int) -> None:
    with pytest.raises(KeyUnavailable, match="does not open this secret"):
        TenantCipher(TENANT_ID, bytes(32)).open_secret(bytes(size))


def test_a_data_key_wrapped_in_the_older_layout_is_refused_in_words() -> None:
    with pytest.raises(KeyUnavailable, match="older layout"):
        TenantCipher(TENANT_ID, bytes(32)).unwrap(bytes(60))


def test_what_was_sealed_for_one_use_opens_for_no_other() -> None:
    cipher = TenantCipher(TENANT_ID, bytes(32))
    with pytest.raises(KeyUnavailable):
        cipher.open_secret(cipher.new_data_key()[1])
    with pytest.raises(KeyUnavailable):
        cipher.unwrap(cipher.seal_secret("x" * 32))


def test_two_tenants_open_nothing_of_each_other() -> None:
    cipher, keys = TenantCipher(TENANT_ID, bytes(32)), segment_keys(SEGMENT_ID)
    secret, (_, wrapped), share = cipher.seal_secret("x"), cipher.new_data_key(), cipher.share_data_key(bytes(32), keys)[0]
    for stranger in (TenantCipher(TENANT_ID, b"\1" * 32), TenantCipher(OTHER_ID, bytes(32))):
        with pytest.raises(KeyUnavailable):
            stranger.open_secret(secret)
        with pytest.raises(KeyUnavailable):
            stranger.unwrap(wrapped)
    with pytest.raises(ShardMismatch):
        TenantCipher(TENANT_ID, b"\1" * 32).open_share(footer(keys, 0, share))


def test_every_segment_has_a_sharing_of_its_own() -> None:
    """Of one sharing for all of them, a provider that holds another index of each segment would collect k shares."""
    cipher, data_key = TenantCipher(TENANT_ID, bytes(32)), bytes(range(32))
    shares = []
    for number in range(6):
        keys = segment_keys(number.to_bytes(16, "big"))
        wrapped = cipher.share_data_key(data_key, keys)
        opened = {index: cipher.open_share(footer(keys, index, one)) for index, one in enumerate(wrapped)}
        assert key_sharing(4, 6).join({index: opened[index] for index in (0, 2, 3, 5)}) == data_key
        shares.append(opened)
    assert len({share for opened in shares for share in opened.values()}) == 36
    assert key_sharing(4, 6).join({index: shares[index][index] for index in range(4)}) != data_key


def test_a_share_opens_in_its_own_footer_alone() -> None:
    cipher, keys = TenantCipher(TENANT_ID, bytes(32)), segment_keys(SEGMENT_ID)
    wrapped = cipher.share_data_key(bytes(range(32)), keys)
    with pytest.raises(ShardMismatch, match="share of shard 1"):
        cipher.open_share(footer(keys, 1, wrapped[0]))
    with pytest.raises(ShardMismatch, match="share of shard 0"):
        cipher.open_share(footer(segment_keys(bytes(16)), 0, wrapped[0]))


SEGMENT_ID = bytes(range(16))


def segment_keys(segment_id: bytes) -> SegmentKeys:
    return SegmentKeys(SegmentGeometry(Scheme(4, 2), 5000), segment_id=segment_id, data_key=bytes(range(32)), tenant_key_id=TENANT_ID)


def footer(keys: SegmentKeys, index: int, wrapped_share: bytes) -> Footer:
    shard = bytes(keys.geometry.cells_size) + pack_footer(bytes(272), wrapped_share, keys.fixed_part(index), generation=0)
    return parse_footer(shard, name=shard_name(keys.segment_id, index), size_bytes=len(shard))
