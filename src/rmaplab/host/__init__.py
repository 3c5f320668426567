"""The real Linux under our feet."""
