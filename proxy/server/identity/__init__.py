"""Who sends a request, and the temporary credentials of those who may act as another."""
