"""How memory is taken back."""
