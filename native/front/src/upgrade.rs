//! Connections whose protocol was switched: raw bytes both ways between the client and Python.

use std::sync::{Arc, OnceLock};

use bytes::{Buf, Bytes, BytesMut};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, Semaphore};

use crate::handoff::{Handoff, Serve};
use crate::stream::StreamState;

/// Pieces read ahead of the callback.
const READ_AHEAD: usize = 8;
const PIECE: usize = 64 * 1024;

/// Gets each piece read, an empty one at the end.
pub type OnData = Arc<dyn Fn(Bytes) + Send + Sync>;

/// The connection, once the answer that switches its protocol has gone out; None when the client went before.
pub async fn switched(upgrade: OnUpgrade) -> Option<impl AsyncRead + AsyncWrite + Unpin + Send> {
    upgrade.await.ok().map(TokioIo::new)
}

/// One switched connection as Python sees it.
pub struct UpgradeState {
    pub outgoing: Arc<StreamState>,
    on_data: OnceLock<OnData>,
    listening: Notify,
    handoff: Handoff,
}

impl UpgradeState {
    pub fn new(handoff: Handoff) -> Arc<Self> {
        Arc::new(Self {
            outgoing: StreamState::new(handoff.clone()),
            on_data: OnceLock::new(),
            listening: Notify::new(),
            handoff,
        })
    }

    /// False when a callback was set before.
    pub fn on_data(&self, callback: OnData) -> bool {
        let fresh = self.on_data.set(callback).is_ok();
        self.listening.notify_one();
        fresh
    }

    /// What to do with the connection.
    pub fn serve(self: Arc<Self>) -> Serve {
        Box::new(|upgrade| Box::pin(self.run(upgrade)))
    }

    /// Runs until either side ends; then both are closed.
    pub async fn run(self: Arc<Self>, upgrade: OnUpgrade) {
        if let Some(connection) = switched(upgrade).await {
            let (reader, writer) = tokio::io::split(connection);
            tokio::select! {
                () = self.read(reader) => {}
                () = self.write(writer) => {}
            }
        }
        self.outgoing.reader_gone();
    }

    /// The client's end of data is told to Python, which may go on writing until it closes.
    async fn read(&self, mut reader: impl AsyncRead + Unpin) {
        let permits = Arc::new(Semaphore::new(READ_AHEAD));
        let on_data = loop {
            match self.on_data.get() {
                Some(callback) => break callback.clone(),
                None => self.listening.notified().await,
            }
        };
        let mut buffer = BytesMut::new();
        loop {
            let Ok(permit) = permits.clone().acquire_owned().await else { return };
            buffer.reserve(PIECE);
            let broken = !matches!(reader.read_buf(&mut buffer).await, Ok(count) if count > 0);
            let piece = buffer.split().freeze();
            let callback = on_data.clone();
            self.handoff.call(Box::new(move || {
                callback(piece);
                drop(permit);
            }));
            if broken {
                return std::future::pending().await;
            }
        }
    }

    async fn write(&self, mut writer: impl AsyncWrite + Unpin) {
        while let Some(mut pieces) = self.outgoing.next_pieces().await {
            while pieces.has_remaining() {
                if writer.write_buf(&mut pieces).await.is_err() {
                    return;
                }
            }
            if writer.flush().await.is_err() {
                return;
            }
        }
        let _ = writer.shutdown().await;
    }
}
