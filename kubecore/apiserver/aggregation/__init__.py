"""APIServices: which group versions there are and who serves them, and requests for those that others serve."""
