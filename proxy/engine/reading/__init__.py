"""The read path: windows of a range are fetched, opened, and sent one after the other, whatever up to m stores do."""
