"""The designs, each in a file of its name, and what they share; the protocol they are asked in; the judge."""
