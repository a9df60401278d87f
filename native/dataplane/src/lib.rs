//! The service data plane: forwarding and DNS.
