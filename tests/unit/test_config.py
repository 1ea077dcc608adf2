from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from proxy.config import Config, listen_address, load_config
from proxy.errors import ConfigError
from proxy.policies import make_policies

CONFIGURATIONS = Path(__file__).parents[2] / "config"
MINIMAL = """
data = "/data"
default_policy = "standard"
manifest = { path = "/data/manifest.sqlite" }
root_key = { path = "/data/root.key" }

[policies.standard]
scheme = "1+0"
never_together = []

[stores.here]
kind = "memory"
provider = "p"
region = "r"
jurisdiction = "EU"
"""
S3_STORE = """
[stores.far]
kind = "s3"
provider = "p"
region = "r"
jurisdiction = "EU"
bucket = "b"
"""
CLOUDS = {
    "AWS_SHARD_BUCKET": "a",
    "GCS_SHARD_BUCKET": "g",
    "AZURE_SHARD_CONTAINER": "z",
    "AZURE_STORAGE_ACCOUNT": "account",
    "AZURE_STORAGE_KEY": "a2V5",
    "R2_ACCOUNT_ID": "r2account",
    "R2_SHARD_BUCKET": "r",
    "R2_ACCESS_KEY_ID": "r2key",
    "R2_SECRET_ACCESS_KEY": "r2secret",
    "B2_SHARD_BUCKET": "b",
    "B2_KEY_ID": "b2key",
    "B2_APPLICATION_KEY": "b2secret",
    "WASABI_SHARD_BUCKET": "w",
    "WASABI_ACCESS_KEY": "wasabikey",
    "WASABI_SECRET_KEY": "wasabisecret",
}
Loader = Callable[..., Config]


@pytest.fixture
def load(tmp_path: Path) -> Loader:
    def load_text(text: str, environ: Mapping[str, str] | None = None) -> Config:
        path = tmp_path / "shardgate.toml"
        path.write_text(text)
        return load_config(path, environ or {})

    return load_text


@pytest.mark.parametrize("name", ["local", "bench", "moto"])
def test_a_shipped_configuration_loads_without_any_environment_and_keeps_its_promises(name: str) -> None:
    config = load_config(CONFIGURATIONS / f"{name}.toml", {})
    policy = make_policies(config)[config.default_policy]
    jurisdictions = Counter(store.jurisdiction for store in config.stores.values())
    assert len({store.provider for store in config.stores.values()}) == 6
    assert len(jurisdictions) >= 3
    assert max(jurisdictions.values()) <= 2
    assert (policy.scheme.k, policy.scheme.m, policy.may_fail.providers) == (4, 2, 1)


def test_bench_is_local_without_fsync() -> None:
    local, bench = (load_config(CONFIGURATIONS / f"{name}.toml", {}) for name in ("local", "bench"))
    assert all(store.fsync for store in local.stores.values())
    assert not any(store.fsync for store in bench.stores.values())
    assert local.policies == bench.policies


def test_local_keeps_everything_where_the_environment_says() -> None:
    config = load_config(CONFIGURATIONS / "local.toml", {"SHARDGATE_DATA": "/elsewhere"})
    paths = [config.data, config.manifest.path, config.root_key.path, *(store.path for store in config.stores.values())]
    assert all(path.startswith("/elsewhere") for path in paths)
    assert load_config(CONFIGURATIONS / "local.toml", {}).data == "./data"
    assert load_config(CONFIGURATIONS / "local.toml", {}).domains == ("localhost",)


def test_moto_ports_come_from_the_environment() -> None:
    config = load_config(CONFIGURATIONS / "moto.toml", {"SHARDGATE_MOTO_PORT_6": "7777"})
    assert config.stores["fir"].endpoint == "http://127.0.0.1:7777"
    assert config.stores["alder"].endpoint == "http://127.0.0.1:9101"
    assert all(store.kind == "s3" and store.create_bucket for store in config.stores.values())


def test_multicloud_loads_with_its_environment_and_both_policies_are_possible() -> None:
    config = load_config(CONFIGURATIONS / "multicloud.toml", CLOUDS)
    policies = make_policies(config)
    assert set(config.stores) == {"aws", "google", "azure", "r2", "b2", "wasabi"}
    assert {info.jurisdiction for info in policies["eu"].stores} == {"EU"}
    assert len(policies["anywhere"].stores) == 6
    assert config.stores["r2"].endpoint == "https://r2account.eu.r2.cloudflarestorage.com"


@pytest.mark.parametrize("missing", sorted(CLOUDS))
def test_multicloud_names_what_is_missing(missing: str) -> None:
    with pytest.raises(ConfigError, match=missing):
        load_config(CONFIGURATIONS / "multicloud.toml", {name: value for name, value in CLOUDS.items() if name != missing})


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("${A}", {"A": "x"}, "x"),
        ("${A}/${B}", {"A": "x", "B": "y"}, "x/y"),
        ("${A:-d}", {"A": "x"}, "x"),
        ("${A:-d}", {}, "d"),
        ("${A:-d}", {"A": ""}, "d"),
        ("${A:-}", {}, ""),
        ("${A:-http://h:1/p}", {}, "http://h:1/p"),
        ("$A costs 5$", {"A": "x"}, "$A costs 5$"),
        ("${A}", {"A": "${B}", "B": "no second round"}, "${B}"),
    ],
)
def test_strings_expand(load: Loader, text: str, environ: dict[str, str], expected: str) -> None:
    assert load(f'{MINIMAL}{S3_STORE}prefix = "{text}"\n', environ).stores["far"].prefix == expected


@pytest.mark.parametrize("text", ["${A}", "${", "${A", "${1}", "${A:default}"])
def test_a_variable_that_cannot_be_expanded_is_refused_by_key(load: Loader, text: str) -> None:
    with pytest.raises(ConfigError, match=r"shardgate\.toml: data: .*\$\{"):
        load(MINIMAL.replace('"/data"', f'"{text}"', 1))


def test_a_secret_is_taken_from_the_environment_or_a_private_file(load: Loader, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from a file\n")
    file.chmod(0o600)
    store = load(f'{MINIMAL}{S3_STORE}access_key = "env:KEY"\nsecret_key = "file:{file}"\n', {"KEY": "from env"}).stores["far"]
    assert (store.access_key, store.secret_key) == ("from env", "from a file")


@pytest.mark.parametrize("environ", [{}, {"KEY": ""}])
def test_a_secret_that_is_not_in_the_environment_is_refused(load: Loader, environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"stores\.far\.access_key: .*KEY is not set"):
        load(f'{MINIMAL}{S3_STORE}access_key = "env:KEY"\nsecret_key = "s"\n', environ)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
@pytest.mark.parametrize("reference", ["secret_key", "service_account"])
def test_a_key_file_open_to_others_is_refused(load: Loader, tmp_path: Path, mode: int, reference: str) -> None:
    file = tmp_path / "secret"
    file.write_text("s")
    file.chmod(mode)
    keys = f'access_key = "a"\nsecret_key = "file:{file}"\n' if reference == "secret_key" else f'service_account = "{file}"\n'
    kind = "s3" if reference == "secret_key" else "gcs"
    with pytest.raises(ConfigError, match=rf"stores\.far\.{reference}: .*chmod 600"):
        load(MINIMAL + S3_STORE.replace('"s3"', f'"{kind}"') + keys)


def test_a_certificate_key_that_others_may_read_is_refused(load: Loader, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("key")
    key.chmod(0o644)
    with pytest.raises(ConfigError, match=r"tls\.key: .*key\.pem can be read by others; run: chmod 600"):
        load(f'{MINIMAL}\n[tls]\ncertificate = "c"\nkey = "{key}"\n')


def test_half_a_certificate_is_refused(load: Loader) -> None:
    with pytest.raises(ConfigError, match=r"tls\.key: missing; add it"):
        load(f'{MINIMAL}\n[tls]\ncertificate = "c"\n')


def test_a_missing_key_file_is_refused(load: Loader, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stores\.far\.secret_key: cannot read"):
        load(f'{MINIMAL}{S3_STORE}access_key = "a"\nsecret_key = "file:{tmp_path}/none"\n')


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("region =", "regoin ="), 'stores.here.regoin: there is no such key; do you mean "region"?'),
        (('data = "/data"', 'data = "/data"\nxyzzy = 1'), "xyzzy: there is no such key; remove it"),
        (('provider = "p"', ""), "stores.here.provider: missing; add it"),
        (('scheme = "1+0"', ""), "policies.standard.scheme: missing; add it"),
        (
            ('kind = "memory"', 'kind = "floppy"'),
            "stores.here.kind: invalid enum value 'floppy'; one of: azure, directory, gcs, memory, s3",
        ),
        (
            ("never_together = []", 'never_together = ["country"]'),
            'policies.standard.never_together: "country" is no unit and no coalition; one of: store, provider, region, jurisdiction; or',
        ),
        (
            ('data = "/data"', 'data = "/data"\nlog = { level = "loud" }'),
            "log.level: invalid enum value 'loud'; one of: debug, error, info",
        ),
        (('provider = "p"', 'provider = ""'), "stores.here.provider: expected `str` of length >= 1"),
        (('data = "/data"', 'data = ""'), "data: expected `str` of length >= 1"),
        (
            ('data = "/data"', 'data = "/data"\ndomains = ["s3.test"]\naccelerate_domains = ["fast.test", "S3.test"]'),
            'accelerate_domains: "s3.test" is one of `domains`, too',
        ),
        (
            ('data = "/data"', 'data = "/data"\npublic_url = "https://Fast.test:8443"\naccelerate_domains = ["fast.TEST"]'),
            'accelerate_domains: "fast.test" is a name of this server',
        ),
        (
            ('data = "/data"', 'data = "/data"\nlisten = "fast.test:9000"\naccelerate_domains = ["fast.test"]'),
            'accelerate_domains: "fast.test" is a name of this server',
        ),
        (
            ('data = "/data"', 'data = "/data"\nwebsite_domains = ["fast.test"]\naccelerate_domains = ["Fast.test"]'),
            'website_domains: "fast.test" is one of `accelerate_domains`, too',
        ),
        (
            ('data = "/data"', 'data = "/data"\ndomains = ["https://s3.example.org"]'),
            'domains: "https://s3.example.org" is not a host name',
        ),
        (('data = "/data"', 'data = "/data"\nlimits = { put_timeout_seconds = inf }'), "limits.put_timeout_seconds: expected `float` <= "),
        (
            ('data = "/data"', 'data = "/data"\nlimits = { collect_after_seconds = 59 }'),
            "limits.collect_after_seconds: 59 is less than put_timeout_seconds (60)",
        ),
        (
            ('data = "/data"', 'data = "/data"\nlimits = { put_timeout_seconds = 3601 }'),
            "limits.collect_after_seconds: 3600 is less than put_timeout_seconds (3601)",
        ),
        (
            ('data = "/data"', 'data = "/data"\ncache = { use = "never", directory = "/x" }'),
            'cache.directory: means nothing with use = "never"',
        ),
        (
            ('kind = "memory"', 'kind = "gcs"\nbucket = "b"\nendpoint = "http://localhost:4443"'),
            "stores.here.service_account: missing beside an endpoint; name a key file, or write anonymous = true",
        ),
        (('kind = "memory"', 'kind = "gcs"\nbucket = "b"\nanonymous = true'), "stores.here.anonymous: for an emulator"),
        (('kind = "memory"', 'kind = "s3"\nbucket = "b"\nanonymous = true'), "stores.here.anonymous: means nothing for a store of kind s3"),
        (('kind = "memory"', 'kind = "directory"'), "stores.here.path: a store of kind directory needs it"),
        (('kind = "memory"', 'kind = "azure"\nbucket = "b"'), "stores.here.account: a store of kind azure needs it"),
        (('kind = "memory"', 'kind = "memory"\npath = "/x"'), "stores.here.path: means nothing for a store of kind memory"),
        (('kind = "memory"', 'kind = "memory"\nconcurrency = 0'), "stores.here.concurrency: expected `int` >= 1"),
        (('kind = "memory"', 'kind = "memory"\nprices = { egress_gb = -1.0 }'), "stores.here.prices.egress_gb: expected `float` >= 0.0"),
        (('kind = "memory"', 'kind = "s3"\nbucket = "b"\naccess_key = "a"'), "stores.here.secret_key: missing; give both keys"),
        (('kind = "memory"', 'kind = "s3"\nbucket = "b"\nendpoint = "host:1"'), 'stores.here.endpoint: "host:1" is not a URL'),
        (("[stores.here]", "[stores.Here]"), "stores.Here: a store's name is lower-case letters"),
        (('scheme = "1+0"', 'scheme = "1+0"\nmay_fail = { providers = -1 }'), "policies.standard.may_fail.providers: expected `int` >= 0"),
        (('scheme = "1+0"', 'scheme = "1+0"\nstores = ["there"]'), 'policies.standard.stores: there is no store "there"; one of: here'),
        (('scheme = "1+0"', 'scheme = "1+0"\nsegment_mib = 17'), "policies.standard.segment_mib: expected `int` <= 16"),
        (('"standard"', '"none"'), 'default_policy: there is no policy "none"; one of: standard'),
        (('data = "/data"', 'data = "/data"\nlisten = "9000"'), 'listen: "9000" is not HOST:PORT'),
        (
            ('data = "/data"', 'data = "/data"\nlimits = { collect_interval_seconds = 0 }'),
            "limits.collect_interval_seconds: expected",
        ),
        (('data = "/data"', 'data = "/data"\nlimits = { intent_seconds = nan }'), "limits.intent_seconds: expected `float` > 0"),
        (('data = "/data"', "data = "), "not valid TOML"),
    ],
)
def test_a_fault_is_refused_by_key_and_remedy(load: Loader, change: tuple[str, str], complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(MINIMAL.replace(*change, 1))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


SECOND_STORE = S3_STORE.replace("stores.far", "stores.near")
DIRECTORY = """
[stores.NAME]
kind = "directory"
provider = "p"
region = "r"
jurisdiction = "EU"
path = "PATH"
"""


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (S3_STORE, SECOND_STORE),
        (S3_STORE + 'prefix = "a/"\n', SECOND_STORE + 'prefix = "a"\n'),
        (S3_STORE + 'endpoint = "https://H/"\n', SECOND_STORE + 'endpoint = "https://h"\n'),
        (DIRECTORY.replace("NAME", "far").replace("PATH", "/a/b"), DIRECTORY.replace("NAME", "near").replace("PATH", "/a/c/../b/")),
    ],
)
def test_two_stores_at_one_place_are_refused(load: Loader, first: str, second: str) -> None:
    with pytest.raises(ConfigError, match=r"stores\.near\.(bucket|path): store far uses it, too"):
        load(MINIMAL + first + second)


@pytest.mark.parametrize("difference", ['prefix = "a"', 'endpoint = "https://h"', 'kind = "gcs"'])
def test_stores_at_different_places_may_have_one_bucket_name(load: Loader, difference: str) -> None:
    second = SECOND_STORE.replace('kind = "s3"\n', "") if "kind" in difference else SECOND_STORE
    assert len(load(f"{MINIMAL}{S3_STORE}{second}{difference}\n").stores) == 3


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the configuration .*none\.toml"):
        load_config(tmp_path / "none.toml", {})


def test_secrets_are_not_shown(load: Loader) -> None:
    config = load(f'{MINIMAL}{S3_STORE}access_key = "a"\nsecret_key = "do-not-show"\n')
    assert config.stores["far"].secret_key == "do-not-show"
    assert "do-not-show" not in f"{config!r} {config} {config.stores}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("127.0.0.1:9000", ("127.0.0.1", 9000)), ("localhost:0", ("localhost", 0)), ("[::1]:80", ("::1", 80)), (":80", ("", 80))],
)
def test_an_address_is_host_and_port(text: str, expected: tuple[str, int]) -> None:
    assert listen_address(text) == expected


@pytest.mark.parametrize("text", ["", "9000", "host:", "host:65536", "host:-1", "host:²", "::1:80"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="listen"):
        listen_address(text)


def configured(tmp_path: Path, line: str) -> Path:
    path = tmp_path / "shardgate.toml"
    path.write_text(f"{line}\n{(CONFIGURATIONS / 'local.toml').read_text()}")
    return path


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('locations = { eu-west-1 = "europe" }', 'locations.eu-west-1: there is no policy "europe"; one of: standard'),
        ('locations = { standard = "standard" }', "locations.standard: a policy has this name"),
        ('public_url = "s3.example.org"', 'public_url: "s3.example.org" is not SCHEME'),
        ('public_url = "https://s3.example.org/"', 'public_url: "https://s3.example.org/" is not SCHEME'),
    ],
)
def test_a_location_or_an_address_that_means_nothing_is_refused(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config(configured(tmp_path, line), {})


def test_locations_and_an_address_are_read(tmp_path: Path) -> None:
    config = load_config(configured(tmp_path, 'locations = { eu-west-1 = "standard" }\npublic_url = "https://[::1]:8443"'), {})
    assert (config.locations, config.public_url) == ({"eu-west-1": "standard"}, "https://[::1]:8443")


def test_an_emulator_of_google_needs_no_credentials(load: Loader) -> None:
    emulator = 'kind = "gcs"\nbucket = "b"\nanonymous = true\nendpoint = "http://localhost:4443"'
    assert load(MINIMAL.replace('kind = "memory"', emulator)).stores["here"].anonymous
