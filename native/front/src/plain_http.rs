//! HTTP where TLS is expected.

use tokio::net::TcpStream;

/// As Go's servers, and so a kube-apiserver, say it.
const ANSWER: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// Waits for the client's first byte, which stays in the socket. True: it speaks plain HTTP and has been told.
pub async fn refused(socket: &TcpStream) -> bool {
    let mut first = [0];
    // A method begins with a capital letter, no record of TLS does.
    if !matches!(socket.peek(&mut first).await, Ok(1)) || !first[0].is_ascii_uppercase() {
        return false;
    }
    let mut request = [0; 4096];
    // What were left unread would make a reset of the end.
    let _ = socket.try_read(&mut request);
    if socket.writable().await.is_ok() {
        let _ = socket.try_write(ANSWER);
    }
    true
}
