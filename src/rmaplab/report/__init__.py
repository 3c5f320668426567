"""What was found, as a person or a program wants it: a Report per verb, tables, plots, JSON and CSV."""
