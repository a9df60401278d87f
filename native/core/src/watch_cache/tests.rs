//! Behaviour of the cache as a whole.
