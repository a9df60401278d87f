//! Where a connection leads, and how it comes about.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body::Body;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::problem::Problem;

const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
/// Of an answer; hyper by itself takes a hundred.
const MOST_HEADERS: usize = 1000;
/// Go reads heads of up to 10 MiB.
const LONGEST_HEAD: usize = 1 << 20;

/// A server, and whether and how the connection to it is secured. Another configuration is another server.
#[derive(Clone)]
pub struct Peer {
    /// A name or an address.
    pub host: String,
    pub port: u16,
    pub tls: Option<Arc<ClientConfig>>,
    /// What its certificate is for, where that is not the host.
    pub server_name: Option<String>,
}

impl Peer {
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// What its certificate is to be for.
    pub(crate) fn name(&self) -> &str {
        self.server_name.as_deref().unwrap_or(&self.host)
    }

    /// The configuration by which it is told apart from others.
    fn secured_by(&self) -> usize {
        self.tls.as_ref().map_or(0, |tls| Arc::as_ptr(tls) as usize)
    }
}

impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        (&self.host, self.port, &self.server_name, self.secured_by())
            == (&other.host, other.port, &other.server_name, other.secured_by())
    }
}

impl Eq for Peer {}

impl std::hash::Hash for Peer {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (&self.host, self.port, &self.server_name, self.secured_by()).hash(state);
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A new connection, which ends with an answer's body, is used for the next request, or is given away when the other
/// side switches to another protocol.
pub async fn connect<B>(peer: &Peer) -> Result<SendRequest<B>, Problem>
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let dialled = tokio::time::timeout(DIAL_TIMEOUT, dial(peer)).await;
    let stream = dialled.unwrap_or_else(|_| {
        Err(Problem::dialing(peer, &peer.authority(), &io::ErrorKind::TimedOut.into()))
    })?;
    let mut protocol = http1::Builder::new();
    protocol
        .max_headers(MOST_HEADERS)
        .max_buf_size(LONGEST_HEAD)
        .title_case_headers(true)
        .allow_obsolete_multiline_headers_in_responses(true);
    let shaken = protocol.handshake(TokioIo::new(stream)).await;
    let (sender, connection) = shaken.map_err(|error| Problem::of(&error.to_string()))?;
    tokio::spawn(connection.with_upgrades());
    Ok(sender)
}

async fn dial(peer: &Peer) -> Result<Box<dyn Stream>, Problem> {
    let (socket, address) = reach(peer).await?;
    let failed = |error: &io::Error| Problem::dialing(peer, &address.to_string(), error);
    socket.set_nodelay(true).map_err(|error| failed(&error))?;
    let Some(config) = &peer.tls else { return Ok(Box::new(socket)) };
    let name = ServerName::try_from(peer.name().to_owned())
        .map_err(|_| failed(&io::Error::new(io::ErrorKind::InvalidInput, "not a host name")))?;
    let secured = TlsConnector::from(Arc::clone(config)).connect(name, socket).await;
    Ok(Box::new(secured.map_err(|error| failed(&error))?))
}

/// The first of its addresses that can be reached; what is told of the others is why the first of all cannot.
async fn reach(peer: &Peer) -> Result<(TcpStream, SocketAddr), Problem> {
    let mut first = None;
    for address in addresses(peer).await? {
        match kubecore_sockets::connect(address).await {
            Ok(socket) => return Ok((socket, address)),
            Err(error) => {
                first.get_or_insert_with(|| Problem::dialing(peer, &address.to_string(), &error));
            }
        }
    }
    Err(first.unwrap_or_else(|| Problem::no_such_host(&peer.host)))
}

async fn addresses(peer: &Peer) -> Result<Vec<SocketAddr>, Problem> {
    if let Ok(address) = peer.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, peer.port)]);
    }
    let found = tokio::net::lookup_host((peer.host.as_str(), peer.port)).await;
    found.map(Iterator::collect).map_err(|error| Problem::looking_up(&peer.host, &error))
}
