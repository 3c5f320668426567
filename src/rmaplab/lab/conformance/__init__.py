"""The conformance kit: random calls on any kernel and design, all of memory compared with a plain model after each."""
