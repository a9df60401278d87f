//! Channels over a WebSocket, after apimachinery `pkg/util/httpstream/wsstream`.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::output::Piece;
use crate::session::Inputs;

const STDIN: u8 = 0;
const RESIZE: u8 = 4;
/// In the place of a channel: the channel named by the next byte is closed.
const CLOSE: u8 = 255;
/// As upstream's server takes it.
const LARGEST_MESSAGE: usize = 32 << 20;

/// How messages are written.
#[derive(Clone, Copy)]
pub struct Form {
    pub base64: bool,
    pub closes: bool,
}

/// Limits of every WebSocket served here. What is written waits in no buffer of the library's own.
pub fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(LARGEST_MESSAGE))
        .max_frame_size(Some(LARGEST_MESSAGE))
        .write_buffer_size(0)
}

/// The message that ends a session without complaint.
pub fn normal_end() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() }))
}

/// The two halves of the work: reading ends when the client has gone, writing when the queue has.
pub async fn open<C: AsyncRead + AsyncWrite + Unpin + Send>(
    connection: C,
    form: Form,
    mut inputs: Inputs,
    mut queue: mpsc::Receiver<Piece>,
) -> io::Result<(impl Future<Output = ()>, impl Future<Output = ()>)> {
    let socket = WebSocketStream::from_raw_socket(connection, Role::Server, Some(config())).await;
    let (mut sink, mut stream) = socket.split();
    let read = async move {
        while let Some(Ok(message)) = stream.next().await {
            let payload: Bytes = match message {
                Message::Binary(payload) => payload,
                Message::Text(text) => text.into(),
                _ => continue,
            };
            if !take(form, &payload, &mut inputs).await {
                return;
            }
        }
    };
    let write = async move {
        while let Some(piece) = queue.recv().await {
            // The end of a channel is the end of the connection.
            if piece.last && piece.content_length() == 0 {
                continue;
            }
            if sink.send(message(form, piece)).await.is_err() {
                return;
            }
        }
        let _ = sink.send(normal_end()).await;
    };
    Ok((read, write))
}

/// False for a breach of the protocol.
async fn take(form: Form, payload: &[u8], inputs: &mut Inputs) -> bool {
    let Some((&first, content)) = payload.split_first() else { return true };
    if form.closes && first == CLOSE {
        if content == [STDIN] {
            inputs.end_stdin();
        }
        return content.len() == 1;
    }
    let decoded;
    let (channel, content) = if form.base64 {
        let Ok(bytes) = STANDARD.decode(content) else { return true };
        decoded = bytes;
        (first.wrapping_sub(b'0'), decoded.as_slice())
    } else {
        (first, content)
    };
    match channel {
        STDIN => inputs.stdin(content).await,
        RESIZE => inputs.size(content),
        _ => {}
    }
    true
}

fn message(form: Form, piece: Piece) -> Message {
    let channel = piece.channel as u8;
    if form.base64 {
        let payload = piece.with_first_byte(0);
        let mut text = String::from(char::from(b'0' + channel));
        STANDARD.encode_string(payload.get(1..).unwrap_or_default(), &mut text);
        return Message::text(text);
    }
    Message::Binary(piece.with_first_byte(channel).freeze())
}
