"""`shardgate policy`: which promises hold for a bucket."""

from __future__ import annotations

import typer

from proxy.cli.campaigns import Orders, Wish, run, takes_orders

app = typer.Typer(help="Bring buckets under policies.", no_args_is_help=True)


@app.command("move")
@takes_orders
def move(orders: Orders, bucket: str, policy: str) -> None:
    """Bring a bucket, and all it holds, under a policy as it is configured now. Without an option, plan it."""
    wish = Wish(words=f"policy move {bucket} {policy}", verb="policy", bucket=bucket, policy=policy)
    run(orders, wish, lambda planner: planner.move_policy(bucket, policy))
