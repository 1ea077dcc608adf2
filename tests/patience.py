"""How long a test waits for what must come, before it says that it hangs.

No test is decided by it: it is far longer than a busy machine takes, and nothing is awaited that comes only when time has passed.
"""

PATIENCE_SECONDS = 180.0
