"""Real programs on a kernel of one's choice: what running them has cost, and a timeline to look at."""
