"""Experiments, a package per subject; memory.py is the plain model of memory that two of them compare with."""
