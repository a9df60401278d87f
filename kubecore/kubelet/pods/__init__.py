"""One pod on a node: its worker, its containers from start to end, and what the API is told of them."""
