"""The root of a directory store, where several threads look at it at once."""

from __future__ import annotations

from pathlib import Path

from proxy.stores.root import Root


def test_whoever_opens_the_root_has_it_while_another_thread_looks_anew(tmp_path: Path) -> None:
    root: Root

    def another_looks() -> float:
        root.let_go()  # as it does while it opens the path
        return 0.0

    root = Root("alder", tmp_path / "alder", fsync=False, now=another_looks)
    assert root.begin(create=True)
    with root.opened() as opened, opened.folder("") as folder:
        assert folder.descriptor >= 0
