//! port-forward over SPDY: for each connection the client opens two streams, one for data and one for an error.
//!
//! After kubelet `pkg/cri/streaming/portforward/httpstream.go`.

use std::io;

use bytes::{Bytes, BytesMut};
use rustc_hash::FxHashMap;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};

use crate::pod_network::PodNetwork;
use crate::spdy::{
    Encoder, Frame, FrameReader, HEAD, Headers, REFUSED_STREAM, REPLIES, data_head, ping, reset, write_frames,
};

const PIECE: usize = 64 * 1024;
/// Frames of all connections that wait for the socket.
const WAITING: usize = 8;
/// Pieces that wait for one of the pod's sockets.
const INCOMING: usize = 16;
/// How long a client may take to open the second stream of a connection.
const PAIRING: Duration = Duration::from_secs(30);
/// Connections that may lack their second stream at a time.
const MOST_HALF: usize = 1024;

/// What is told of a connection that failed, before why.
pub struct Subject {
    pub pod: String,
    pub uid: String,
}

impl Subject {
    pub fn failure(&self, port: u16, why: &str) -> String {
        format!("error forwarding port {port} to pod {}, uid {}: {why}", self.pod, self.uid)
    }
}

/// Runs until the client has gone; the connections to the pod end with it.
pub async fn serve(
    connection: impl AsyncRead + AsyncWrite + Unpin + Send,
    network: PodNetwork,
    subject: Subject,
) {
    let (reader, writer) = tokio::io::split(connection);
    let (replies, waiting_replies) = mpsc::channel(REPLIES);
    let (frames, waiting) = mpsc::channel(WAITING);
    let forwarder = Forwarder {
        network,
        subject: subject.into(),
        replies,
        frames,
        encoder: Encoder::default(),
        half: FxHashMap::default(),
        incoming: FxHashMap::default(),
        connections: JoinSet::new(),
    };
    tokio::select! {
        () = forwarder.run(FrameReader::new(reader)) => {}
        () = write_frames(writer, waiting_replies, waiting, |frame: BytesMut| frame) => {}
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Error,
    Data,
}

/// The stream of a connection that has come first.
struct Half {
    kind: Kind,
    stream: u32,
    since: Instant,
}

/// The way from a data stream to its connection. Dropped, the client's data has ended.
struct Incoming {
    data: mpsc::Sender<Bytes>,
    /// Dropped when the stream is reset.
    alive: oneshot::Sender<()>,
}

struct Forwarder {
    network: PodNetwork,
    subject: std::sync::Arc<Subject>,
    replies: mpsc::Sender<Vec<u8>>,
    frames: mpsc::Sender<BytesMut>,
    encoder: Encoder,
    half: FxHashMap<String, Half>,
    incoming: FxHashMap<u32, Incoming>,
    connections: JoinSet<()>,
}

impl Forwarder {
    async fn run(mut self, mut frames: FrameReader<impl AsyncRead + Unpin>) {
        while let Ok(Some(frame)) = frames.next().await {
            while self.connections.try_join_next().is_some() {}
            let taken = match frame {
                Frame::SynStream { stream, headers, .. } => self.open(stream, &headers),
                Frame::Data { stream, data, fin } => {
                    self.data(stream, data, fin).await;
                    true
                }
                Frame::Reset { stream, .. } => {
                    self.incoming.remove(&stream);
                    true
                }
                Frame::Ping(id) => self.reply(ping(id)),
                _ => true,
            };
            if !taken {
                return;
            }
        }
    }

    fn reply(&self, frame: Vec<u8>) -> bool {
        self.replies.try_send(frame).is_ok()
    }

    /// What comes before the other half of its connection has nowhere to go: no client sends it.
    async fn data(&mut self, stream: u32, data: Bytes, fin: bool) {
        if let Some(incoming) = self.incoming.get_mut(&stream)
            && !data.is_empty()
        {
            // The connection's end may have gone; the client will hear of it.
            let _ = incoming.data.send(data).await;
        }
        if fin && let Some(incoming) = self.incoming.get_mut(&stream) {
            // A sender whose receiver never gets more: the end of the data, while the stream lives on.
            incoming.data = mpsc::channel(1).0;
        }
    }

    fn open(&mut self, stream: u32, headers: &Headers) -> bool {
        let port = headers.get("port").and_then(|port| port.parse().ok()).filter(|port| *port > 0);
        let kind = match headers.get("streamtype") {
            Some("error") => Some(Kind::Error),
            Some("data") => Some(Kind::Data),
            _ => None,
        };
        let (Some(port), Some(kind)) = (port, kind) else {
            return self.reply(reset(stream, REFUSED_STREAM));
        };
        // Before the connection can say anything on the stream.
        let reply = self.encoder.syn_reply(stream, &Headers::default());
        let taken = self.reply(reply);
        let id = headers.get("requestid").map_or_else(|| assumed_id(kind, stream), str::to_owned);
        self.incoming.retain(|_, incoming| !incoming.alive.is_closed());
        self.half.retain(|_, half| half.since.elapsed() < PAIRING);
        match self.half.remove(&id) {
            None if self.half.len() >= MOST_HALF => return self.reply(reset(stream, REFUSED_STREAM)),
            None => {
                self.half.insert(id, Half { kind, stream, since: Instant::now() });
            }
            Some(first) => match (first.kind, kind) {
                (Kind::Error, Kind::Data) => self.connect(port, first.stream, stream),
                (Kind::Data, Kind::Error) => self.connect(port, stream, first.stream),
                _ => {
                    self.half.insert(id, first);
                    return self.reply(reset(stream, REFUSED_STREAM));
                }
            },
        }
        taken
    }

    fn connect(&mut self, port: u16, error: u32, data: u32) {
        let (sender, receiver) = mpsc::channel(INCOMING);
        let (alive, reset) = oneshot::channel();
        self.incoming.insert(data, Incoming { data: sender, alive });
        let (network, subject, frames) = (self.network.clone(), self.subject.clone(), self.frames.clone());
        self.connections.spawn(async move {
            let streams = Streams { frames, error, data };
            match network.connect(port).await {
                Ok(socket) => {
                    tokio::select! {
                        () = streams.copy(socket, receiver) => {}
                        _ = reset => {}
                    }
                    streams.send(error, &[], true).await;
                }
                Err(why) => streams.fail(&subject.failure(port, &why)).await,
            }
        });
    }
}

/// Clients that name no connection open its error stream first and its data stream next (upstream's guess).
fn assumed_id(kind: Kind, stream: u32) -> String {
    match kind {
        Kind::Error => stream.to_string(),
        Kind::Data => stream.saturating_sub(2).to_string(),
    }
}

/// The two streams of a connection, towards the client.
struct Streams {
    frames: mpsc::Sender<BytesMut>,
    error: u32,
    data: u32,
}

impl Streams {
    async fn send(&self, stream: u32, content: &[u8], fin: bool) {
        let mut frame = BytesMut::with_capacity(HEAD + content.len());
        frame.extend_from_slice(&data_head(stream, content.len(), fin));
        frame.extend_from_slice(content);
        let _ = self.frames.send(frame).await;
    }

    async fn fail(&self, text: &str) {
        self.send(self.error, text.as_bytes(), true).await;
        self.send(self.data, &[], true).await;
    }

    /// Both ways, until the pod has said everything. That the client has, the pod is told, and may go on; the other
    /// way round it may not: older clients end their side only once both streams towards them have ended.
    async fn copy(&self, socket: TcpStream, mut incoming: mpsc::Receiver<Bytes>) {
        let _ = socket.set_nodelay(true);
        let (mut from_pod, mut to_pod) = socket.into_split();
        let up = async {
            while let Some(data) = incoming.recv().await {
                if to_pod.write_all(&data).await.is_err() {
                    break;
                }
            }
            let _ = to_pod.shutdown().await;
            std::future::pending::<()>().await;
        };
        let down = async {
            while let Ok(Some(frame)) = self.read(&mut from_pod).await {
                if self.frames.send(frame).await.is_err() {
                    return;
                }
            }
            self.send(self.data, &[], true).await;
        };
        tokio::select! {
            () = up => {}
            () = down => {}
        }
    }

    /// The next data frame; None at the end.
    async fn read(&self, source: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<BytesMut>> {
        let mut frame = BytesMut::with_capacity(HEAD + PIECE);
        frame.extend_from_slice(&[0; HEAD]);
        let count = source.read_buf(&mut frame).await?;
        if let Some(head) = frame.get_mut(..HEAD) {
            head.copy_from_slice(&data_head(self.data, count, false));
        }
        Ok((count > 0).then_some(frame))
    }
}
