"""The verbs, as in Linux's mm/: mmap, fault, fork, exit, and the calls a task makes."""
