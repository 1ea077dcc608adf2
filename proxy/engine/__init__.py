"""The verbs: write, read, copy, delete, multipart, list, collect. All concurrency lives here."""
