"""The figures of the README: placeholder until the lab stands."""
