"""The surface: a Task, the calls it can make, and one table of them."""
