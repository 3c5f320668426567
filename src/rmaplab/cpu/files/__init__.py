"""Files as a program sees them: open files (open_file.py), streams of the host, pipes, and a tree of names over a directory of the host."""
