"""Model against host: the same script on a System and on the real kernel, line by line."""
