//! port-forward over WebSocket channels: the ports are named beforehand, each has a channel for data (even) and one for
//! an error (odd), and one connection.
//!
//! After kubelet `pkg/cri/streaming/portforward/websocket.go`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures_util::future::{join, join_all};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::pod_network::PodNetwork;
use crate::port_forward::Subject;
use crate::websocket_session::{config, normal_end};

const PIECE: usize = 64 * 1024;
const WAITING: usize = 8;
const INCOMING: usize = 16;

/// Runs until every port's connection has ended or the client has gone. At most 128 ports have channels.
pub async fn serve(
    connection: impl AsyncRead + AsyncWrite + Unpin + Send,
    base64: bool,
    ports: Vec<u16>,
    network: PodNetwork,
    subject: Subject,
) {
    let socket = WebSocketStream::from_raw_socket(connection, Role::Server, Some(config())).await;
    let (mut sink, mut messages) = socket.split();
    let (frames, mut waiting) = mpsc::channel::<BytesMut>(WAITING);
    let (incoming, receivers): (Vec<_>, Vec<_>) = ports.iter().map(|_| mpsc::channel(INCOMING)).unzip();
    let receive = async move {
        while let Some(Ok(message)) = messages.next().await {
            let Some((channel, data)) = parted(base64, message) else { continue };
            if channel % 2 == 0
                && let Some(port) = incoming.get(usize::from(channel / 2))
            {
                // A connection that has ended takes nothing more.
                let _ = port.send(data).await;
            }
        }
    };
    let connections = async {
        let forwards = ports.iter().zip(receivers).enumerate();
        let forwards = forwards.map(|(index, (port, incoming))| {
            let channel = u8::try_from(2 * index).unwrap_or(u8::MAX);
            forward(*port, channel, &network, &subject, frames.clone(), incoming)
        });
        join_all(forwards.collect::<Vec<_>>()).await;
        drop(frames);
    };
    let send = async {
        while let Some(frame) = waiting.recv().await {
            if sink.send(message(base64, frame)).await.is_err() {
                return;
            }
        }
        let _ = sink.send(normal_end()).await;
    };
    tokio::select! {
        () = receive => {}
        _ = join(connections, send) => {}
    }
}

async fn forward(
    port: u16,
    channel: u8,
    network: &PodNetwork,
    subject: &Subject,
    frames: mpsc::Sender<BytesMut>,
    incoming: mpsc::Receiver<Bytes>,
) {
    let send = async |channel: u8, content: &[u8]| {
        let mut frame = BytesMut::with_capacity(1 + content.len());
        frame.extend_from_slice(&[channel]);
        frame.extend_from_slice(content);
        frames.send(frame).await.is_ok()
    };
    // Both channels begin with their port.
    send(channel, &port.to_le_bytes()).await;
    send(channel + 1, &port.to_le_bytes()).await;
    match network.connect(port).await {
        Ok(socket) => copy(socket, channel, &frames, incoming).await,
        Err(why) => {
            send(channel + 1, subject.failure(port, &why).as_bytes()).await;
        }
    }
}

/// Ends when the pod has said everything: the client cannot say that it has.
async fn copy(
    socket: TcpStream,
    channel: u8,
    frames: &mpsc::Sender<BytesMut>,
    mut incoming: mpsc::Receiver<Bytes>,
) {
    let _ = socket.set_nodelay(true);
    let (mut from_pod, mut to_pod) = socket.into_split();
    let up = async {
        while let Some(data) = incoming.recv().await {
            if to_pod.write_all(&data).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let down = async {
        loop {
            let mut frame = BytesMut::with_capacity(1 + PIECE);
            frame.extend_from_slice(&[channel]);
            let count = from_pod.read_buf(&mut frame).await.unwrap_or(0);
            if count == 0 || frames.send(frame).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

fn parted(base64: bool, message: Message) -> Option<(u8, Bytes)> {
    let mut payload: Bytes = match message {
        Message::Binary(payload) => payload,
        Message::Text(text) => text.into(),
        _ => return None,
    };
    let channel = *payload.first()?;
    let data = payload.split_off(1);
    if base64 {
        return Some((channel.wrapping_sub(b'0'), STANDARD.decode(data).ok()?.into()));
    }
    Some((channel, data))
}

fn message(base64: bool, frame: BytesMut) -> Message {
    if !base64 {
        return Message::Binary(frame.freeze());
    }
    let (channel, content) =
        frame.split_first().map_or((0, &[][..]), |(channel, content)| (*channel, content));
    let mut text = String::from(char::from(b'0'.wrapping_add(channel)));
    STANDARD.encode_string(content, &mut text);
    Message::text(text)
}
