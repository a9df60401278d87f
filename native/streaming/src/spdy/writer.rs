//! Frames to a connection.

use bytes::BytesMut;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// Replies and pings that wait for the socket; a client that wants more without reading is cut off.
pub const REPLIES: usize = 256;

/// Writes what comes, replies before data. Ends with the queue of data, or when the client has gone.
pub async fn write_frames<T>(
    mut writer: impl AsyncWrite + Unpin,
    mut replies: mpsc::Receiver<Vec<u8>>,
    mut queue: mpsc::Receiver<T>,
    framed: impl Fn(T) -> BytesMut,
) {
    loop {
        let written = tokio::select! {
            biased;
            Some(frame) = replies.recv() => writer.write_all(&frame).await,
            data = queue.recv() => match data {
                Some(data) => writer.write_all(&framed(data)).await,
                None => return,
            },
        };
        if written.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
}
