"""The manifest's copy in the stores: journal segments, checkpoints, and the fence that compares them with the manifest."""
