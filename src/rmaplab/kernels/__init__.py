"""What each kernel is: figures, designs and patches, composed; boot() and System."""
