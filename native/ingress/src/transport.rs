//! Connections to destinations, with TLS or without.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use kubecore_tls::{TlsError, Trust, client_config};
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A peer that vanished without a word is noticed after about two minutes.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(15))
    .with_retries(4);

/// How a backend's destinations are spoken to in TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSpec {
    /// What is asked for (SNI), and what the certificate must be for where that is checked.
    pub name: String,
    /// In PEM: who must have signed the certificate. None: any certificate will do, as long as its key is the peer's.
    pub roots: Option<Vec<u8>>,
    /// In PEM, chain and key: what is shown to a destination that asks for it.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    pub http2: bool,
}

/// A `TlsSpec`, ready.
pub struct Tls {
    pub spec: TlsSpec,
    name: ServerName<'static>,
    connector: TlsConnector,
    /// Of no other one: connections are shared by those alone that ask for the same.
    id: u64,
}

/// Whom a connection leads to: connections of one peer stand for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    pub address: SocketAddr,
    tls: u64,
}

impl Peer {
    pub fn new(address: SocketAddr, tls: Option<&Tls>) -> Self {
        Self { address, tls: tls.map_or(0, |tls| tls.id) }
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Tls").field("name", &self.name).field("id", &self.id).finish_non_exhaustive()
    }
}

impl Tls {
    /// Errors: a name that cannot be asked for, broken PEM, a key that is another certificate's.
    pub fn new(spec: TlsSpec) -> Result<Self, TlsError> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let invalid =
            |_| TlsError::Rustls(rustls::Error::General(format!("invalid server name {:?}", spec.name)));
        let name = ServerName::try_from(spec.name.clone()).map_err(invalid)?;
        let trust = spec.roots.as_deref().map_or(Trust::Anyone, Trust::Named);
        let identity = spec.identity.as_ref().map(|(chain, key)| (chain.as_slice(), key.as_slice()));
        let mut config = client_config(trust, identity)?;
        config.alpn_protocols = vec![if spec.http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Self { spec, name, connector, id: LAST.fetch_add(1, Relaxed) + 1 })
    }
}

/// Errors: as connect(2) has them, `TimedOut`, and what is wrong with the peer's certificate.
pub async fn connect(address: SocketAddr, tls: Option<&Tls>, limit: Duration) -> io::Result<Transport> {
    let connecting = async {
        let stream = kubecore_sockets::connect(address).await?;
        // The peer may have gone already; the first read tells.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE);
        let Some(tls) = tls else { return Ok(Transport::Plain(stream)) };
        let stream = tls.connector.connect(tls.name.clone(), stream).await?;
        Ok(Transport::Tls(Box::new(stream)))
    };
    tokio::time::timeout(limit, connecting).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

pub enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

macro_rules! either {
    ($transport:expr, $stream:ident => $done:expr) => {
        match $transport.get_mut() {
            Transport::Plain($stream) => $done,
            Transport::Tls($stream) => $done,
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
