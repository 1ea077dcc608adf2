"""The statements that make the tables of a new database, by theme. The journal's come last: its triggers are on the tables of others."""

from proxy.manifest.sqlite.tables import accounts, campaigns, damage, events, journal, locks, objects, replication, scrub, upkeep

ALL: tuple[str, ...] = (
    *accounts.TABLES,
    *objects.TABLES,
    *upkeep.TABLES,
    *damage.TABLES,
    *campaigns.TABLES,
    *scrub.TABLES,
    *events.TABLES,
    *replication.TABLES,
    *locks.TABLES,
    *journal.TABLES,
)
