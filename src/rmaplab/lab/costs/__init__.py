"""What designs cost where the announcement did not look: memory over children and VMAs, walks in a large family."""
