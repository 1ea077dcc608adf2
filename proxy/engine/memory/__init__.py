"""The memory that requests hold: one budget for all of a process, and who gets of it next."""
