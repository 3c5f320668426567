"""Programs for simulated tasks, their twins for the real kernel, and scripts of calls for both."""
