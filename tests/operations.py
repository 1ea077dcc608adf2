"""The table of all operations of S3's model, as docs/S3.md has it: what each answers here, from the code.

`python -m tests.operations` writes it anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from proxy.s3.model import Operation, load_model
from proxy.server.call import Handle
from proxy.server.handlers import HANDLERS, settings
from proxy.server.handlers.settings import NotSet
from tests.servers import ROOT

PAGE = ROOT / "docs" / "S3.md"
BEGIN, END = "<!-- operations: begin -->\n", "<!-- operations: end -->\n"
_OLDER = {
    "GetBucketLifecycle": "GetBucketLifecycleConfiguration",
    "GetBucketNotification": "GetBucketNotificationConfiguration",
    "PutBucketLifecycle": "PutBucketLifecycleConfiguration",
    "PutBucketNotification": "PutBucketNotificationConfiguration",
}  # whose request line another operation has by now
_OFF = frozenset({settings.abac_is_off, settings.empty_list})


def operations_table(handlers: Mapping[str, Handle] = HANDLERS) -> str:
    """Return the table: a row for each operation, by name."""
    rows = (f"| `{operation.name}` | {_answer(operation, handlers)} |\n" for operation in _operations())
    return "| operation | answer |\n|---|---|\n" + "".join(rows)


def told_table() -> str:
    """Return the table that the page has."""
    return PAGE.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]


def _operations() -> Iterator[Operation]:
    model = load_model().operations
    yield from (model[name] for name in sorted(model))


def _answer(operation: Operation, handlers: Mapping[str, Handle]) -> str:
    if operation.name in _OLDER:
        return f"as `{_OLDER[operation.name]}`"
    handle = handlers.get(operation.name)
    if handle is None:
        return "501 NotImplemented"
    if isinstance(handle, NotSet):
        return f"not configured: {handle.code}"
    if handle in _OFF:
        return "not configured"
    return "served"


def _write() -> None:
    text = PAGE.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}{operations_table()}{END}{rest.partition(END)[2]}", "utf-8")


if __name__ == "__main__":
    _write()
