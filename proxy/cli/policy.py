"""`shardgate policy`: which promises hold for a bucket."""

from __future__ import annotations

import typer

from proxy.cli.campaigns import ApplyOption, CancelOption, DetachOption, Orders, PauseOption, ResumeOption, Wish, run
from proxy.cli.context import DEFAULT_CONFIG, ConfigOption, JsonOption

app = typer.Typer(help="Bring buckets under policies.", no_args_is_help=True)


@app.command("move")
def move(
    bucket: str,
    policy: str,
    config: ConfigOption = DEFAULT_CONFIG,
    apply: ApplyOption = None,
    pause: PauseOption = None,
    resume: ResumeOption = None,
    cancel: CancelOption = None,
    detach: DetachOption = False,
    as_json: JsonOption = False,
) -> None:
    """Bring a bucket, and all it holds, under a policy as it is configured now. Without an option, plan it."""
    orders = Orders(apply=apply, pause=pause, resume=resume, cancel=cancel, detach=detach, as_json=as_json)
    wish = Wish(words=f"policy move {bucket} {policy}", verb="policy", bucket=bucket, policy=policy)
    run(config, wish, orders, lambda planner: planner.move_policy(bucket, policy))
