//! A byte stream in the binary messages of a WebSocket: how SPDY passes where only WebSockets do.

use std::pin::pin;

use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::websocket_session::{config, normal_end};

const BUFFER: usize = 128 * 1024;
const PIECE: usize = 64 * 1024;

/// Runs `serve` with the stream that the messages carry.
pub async fn through<F: Future<Output = ()>>(
    connection: impl AsyncRead + AsyncWrite + Unpin + Send,
    serve: impl FnOnce(DuplexStream) -> F,
) {
    let socket = WebSocketStream::from_raw_socket(connection, Role::Server, Some(config())).await;
    let (mut sink, mut messages) = socket.split();
    let (ours, theirs) = tokio::io::duplex(BUFFER);
    let (mut outgoing, mut incoming) = tokio::io::split(theirs);
    let receive = async {
        while let Some(Ok(message)) = messages.next().await {
            if let Message::Binary(data) = message
                && incoming.write_all(&data).await.is_err()
            {
                return;
            }
        }
        let _ = incoming.shutdown().await;
    };
    let send = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(PIECE);
            let count = outgoing.read_buf(&mut buffer).await.unwrap_or(0);
            if count == 0 || sink.send(Message::Binary(buffer.split().freeze())).await.is_err() {
                break;
            }
        }
        let _ = sink.send(normal_end()).await;
    };
    let mut served = pin!(serve(ours));
    let mut pumps = pin!(futures_util::future::join(receive, send));
    tokio::select! {
        () = &mut served => {
            // What was written last is still on its way; the client is to close after that.
            let _ = tokio::time::timeout(std::time::Duration::from_secs(5), pumps).await;
        }
        _ = &mut pumps => {}
    }
}
