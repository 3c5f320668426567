"""The verbs, as in Linux's mm/: mmap, fault, fork, exit, and what else is done to memory."""
