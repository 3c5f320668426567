"""The announcement of 18 March 2004: its benchmark, its seconds, its claims, and what simulated time makes of them."""
