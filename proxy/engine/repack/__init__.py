"""Repacking: the slots of packs that are still in use are stored anew, so that what was deleted goes, and many small packs become one."""
