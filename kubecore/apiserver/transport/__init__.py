"""How requests come in: the Rust listener's queue, drained on the event loop."""
