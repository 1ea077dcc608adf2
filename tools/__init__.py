"""Tools of this project, for those who work on it."""
