"""What outlives a mapping: swap slots and the pages read from them, and the pages of files."""
