"""What a person sees: tables, and files for other programs."""
