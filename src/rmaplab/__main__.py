"""`python -m rmaplab`."""

from rmaplab.cli import main

main()
