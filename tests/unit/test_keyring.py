from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import ConfigError, KeyUnavailable
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
    with pytest.raises(KeyUnavailable, match="wrapped by another"):
        Keyring(FileRootKey(b"\1" * 32)).tenant_cipher(Holder(TENANT_ID, wrapped))


def test_a_tenant_key_moved_to_another_tenant_does_not_open() -> None:
    keyring = Keyring(FileRootKey(bytes(32)))
    wrapped = keyring.new_tenant_key(TENANT_ID)[1]
    with pytest.raises(KeyUnavailable):
        keyring.tenant_cipher(Holder(OTHER_ID, wrapped))


@pytest.mark.parametrize("wrapped", [b"", bytes(5), bytes(12), bytes(20)])
def test_a_tenant_key_cut_short_does_not_open(wrapped: bytes) -> None:
    with pytest.raises(KeyUnavailable):
        Keyring(FileRootKey(bytes(32))).tenant_cipher(Holder(TENANT_ID, wrapped))


def test_data_keys_are_fresh_and_their_wrapped_form_has_the_size_of_the_shard_header() -> None:
    cipher = TenantCipher(TENANT_ID, bytes(32))
    drawn = [cipher.new_data_key() for _ in range(100)]
    assert len({key for key, _ in drawn}) == 100
    assert all(len(key) == 32 and len(wrapped) == 60 and cipher.unwrap(wrapped) == key for key, wrapped in drawn)


@given(label=st.binary(max_size=2000))
def test_a_label_is_sealed_with_28_bytes_more_and_never_the_same_way_twice(label: bytes) -> None:
    cipher = TenantCipher(TENANT_ID, bytes(32))
    sealed = cipher.seal_label(label)
    assert cipher.open_label(sealed) == label
    assert len(sealed) == len(label) + 28
    assert cipher.seal_label(label) != sealed


@given(position=st.integers(0, 59), flip=st.integers(1, 255))
def test_a_wrapped_data_key_changed_anywhere_does_not_open(position: int, flip: int) -> None:
    cipher = TenantCipher(TENANT_ID, bytes(32))
    forged = bytearray(cipher.new_data_key()[1])
    forged[position] ^= flip
    with pytest.raises(KeyUnavailable):
        cipher.unwrap(bytes(forged))


@pytest.mark.parametrize("size", [0, 7, 11, 27])
def test_what_is_cut_short_does_not_open(size: int) -> None:
    with pytest.raises(KeyUnavailable):
        TenantCipher(TENANT_ID, bytes(32)).open_label(bytes(size))


def test_what_was_sealed_for_one_use_opens_for_no_other() -> None:
    cipher = TenantCipher(TENANT_ID, bytes(32))
    wrapped = cipher.new_data_key()[1]
    for misuse in (cipher.open_label, cipher.open_secret):
        with pytest.raises(KeyUnavailable):
            misuse(wrapped)
    with pytest.raises(KeyUnavailable):
        cipher.unwrap(cipher.seal_label(bytes(32)))


def test_two_tenants_open_nothing_of_each_other() -> None:
    sealed = TenantCipher(TENANT_ID, bytes(32)).seal_label(b"x")
    for stranger in (TenantCipher(TENANT_ID, b"\1" * 32), TenantCipher(OTHER_ID, bytes(32))):
        with pytest.raises(KeyUnavailable):
            stranger.open_label(sealed)
