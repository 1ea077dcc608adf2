"""The Owner element of answers."""

from __future__ import annotations

from proxy.manifest.records import Tenant


def owner_element(tenant: Tenant) -> dict[str, object]:
    """Return an account as S3's Owner and Initiator elements tell it.

    What lies in a bucket belongs to the bucket's owner, whoever wrote it.
    """
    return {"ID": tenant.canonical_id, "DisplayName": tenant.display_name}
