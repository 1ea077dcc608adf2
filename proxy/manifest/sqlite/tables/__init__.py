"""The statements that make the tables of a new database, by theme."""

from proxy.manifest.sqlite.tables import accounts, damage, objects, upkeep

ALL: tuple[str, ...] = (*accounts.TABLES, *objects.TABLES, *upkeep.TABLES, *damage.TABLES)
