"""System calls of programs, by subject: memory is the simulated kernel's own, all else is Linux of today (registry.py)."""
