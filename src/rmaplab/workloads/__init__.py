"""Programs for simulated tasks, and their twins for the real kernel."""
