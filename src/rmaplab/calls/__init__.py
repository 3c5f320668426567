"""The surface: what a task can call."""
