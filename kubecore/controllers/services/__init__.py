"""Who serves a Service, and at which addresses."""
