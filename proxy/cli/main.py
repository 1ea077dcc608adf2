"""The `shardgate` command."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from proxy.cli import (
    access,
    campaigns,
    fsck,
    init,
    jobs,
    key,
    kms,
    lost,
    manifest,
    objects,
    placement,
    policy,
    recover,
    role,
    scrub,
    serve,
    status,
    stores,
    tenant,
)
from proxy.errors import ConfigError, ProxyError

app = typer.Typer(
    name="shardgate",
    help="An S3 endpoint that codes, seals and spreads every object.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("serve")(serve.serve)
app.command("init")(init.init)
app.command("recover")(recover.recover)
app.command("status")(status.status)
app.add_typer(tenant.app, name="tenant")
app.add_typer(key.app, name="key")
app.add_typer(kms.app, name="kms")
app.add_typer(role.app, name="role")
app.add_typer(access.app, name="access")
app.add_typer(stores.app, name="stores")
app.command("rebalance")(campaigns.rebalance)
app.add_typer(policy.app, name="policy")
app.add_typer(placement.app, name="placement")
objects.app.command("lost")(lost.lost)
app.add_typer(objects.app, name="object")
app.add_typer(jobs.app, name="jobs")
app.add_typer(manifest.app, name="manifest")
app.command("scrub")(scrub.scrub)
app.command("fsck")(fsck.fsck)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # 30 ms, for this alone

        print(f"shardgate {version('shardgate')}")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """An S3 endpoint that codes, seals and spreads every object."""
    del show_version


def main() -> None:
    """Run the command; an error is one line and exit code 1."""
    try:
        _check_text(sys.argv[1:])
        app()
    except (ProxyError, OSError) as error:  # OSError: a full disk, a folder that may not be written
        print(f"shardgate: {' '.join(_told(error).split())}", file=sys.stderr)
        sys.exit(1)


def _told(error: Exception) -> str:
    """Say what is wrong in words: of an `OSError`, without its number."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def _check_text(arguments: list[str]) -> None:
    """What is not UTF-8 comes from the system as lone surrogates: https://peps.python.org/pep-0383/"""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(f"the argument {argument!a} is not UTF-8; names and keys must be") from error


if __name__ == "__main__":
    main()
