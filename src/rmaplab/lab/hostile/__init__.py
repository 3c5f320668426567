"""Programs that mean harm, made from a seed, and what becomes of them."""
