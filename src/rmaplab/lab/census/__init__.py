"""The reverse map of a real machine as figures, and its fork trees lived through again in the model."""
