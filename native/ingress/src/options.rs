use std::time::Duration;

/// Bounds on what clients and destinations may take.
#[derive(Clone, Debug)]
pub struct Options {
    /// For one attempt to reach a destination, before another one is tried.
    pub connect_timeout: Duration,
    /// From the end of a request to the head of its answer.
    pub response_timeout: Duration,
    /// Destinations tried for one request.
    pub attempts: usize,
    /// From opening a connection to the end of its first request's head.
    pub header_timeout: Duration,
    /// From the end of an answer to the end of the next request's head.
    pub idle_timeout: Duration,
    /// A client that reads nothing for so long is dropped.
    pub write_stall_timeout: Duration,
    pub handshake_timeout: Duration,
    pub max_header_bytes: usize,
    pub max_connections: usize,
    /// Concurrent HTTP/2 streams of a client's connection.
    pub max_streams: u32,
    /// Idle connections kept for each destination.
    pub pool_size: usize,
    /// How long they are kept.
    pub pool_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(60),
            attempts: 3,
            header_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            write_stall_timeout: Duration::from_secs(60),
            handshake_timeout: Duration::from_secs(10),
            max_header_bytes: 64 << 10,
            max_connections: 16_384,
            max_streams: 250,
            pool_size: 256,
            pool_timeout: Duration::from_secs(60),
        }
    }
}
