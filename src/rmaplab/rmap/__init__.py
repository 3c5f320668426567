"""The designs, a file each; the protocol they are asked in; the judge."""
