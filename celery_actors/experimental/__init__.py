"""Things that may still change."""
