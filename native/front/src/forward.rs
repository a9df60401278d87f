//! Requests passed on to a kubelet, a pod or a service: HTTP, and connections that both sides switch to another
//! protocol, whose bytes then go through here unread.
//!
//! After apimachinery `pkg/util/proxy/upgradeaware.go`: a backend that refuses to switch has its refusal passed on, and
//! no connection stays; where one side of a switched connection ends, so does the other.

mod identity;
mod links;
mod pages;

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use kubecore_core::authn::UserInfo;
use kubecore_core::status::Status;
use kubecore_outgoing::{Peer, Problem, Stage, connect};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::time::Instant;

use self::links::Links;
pub use self::pages::Page;
use crate::authz::HeldRight;
use crate::body::Body;
use crate::exchange::Exchange;
use crate::lifespan::Phase;
use crate::request_body::Sent;
use crate::server::Server;
use crate::{service, status};

/// A refusal to switch is passed on within this time and up to this length.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(10);
const REFUSAL_BYTES: usize = 1 << 20;
const BUFFER: usize = 64 * 1024;
/// How long a side that does not read may hold up the end of its connection.
const CLOSING: Duration = Duration::from_secs(10);

/// Of the client's credentials the backend hears nothing.
const PRIVATE: [&str; 2] = ["authorization", "impersonate-"];
/// What concerns one connection only.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
const CROSS_ORIGIN: [&str; 4] = [
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
];

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const NO_SNIFFING: HeaderValue = HeaderValue::from_static("nosniff");

/// Where a request goes.
#[derive(Clone)]
pub struct Forward {
    pub peer: Peer,
    /// The backend is an extension API server: it is told who asks, believes it by what `peer.tls` shows, and is kept
    /// connections to. What we have to say ourselves is plain text, as upstream's aggregator has it.
    pub user: Option<Arc<UserInfo>>,
    /// How long the answer may take.
    pub patience: Option<Duration>,
    /// Path and query as the backend is to see them.
    pub target: String,
    /// Under which path of ours the backend's `/` is seen; redirects and X-Forwarded-Uri are told with it. None where
    /// the backend is one of the cluster's own.
    pub prefix: Option<String>,
    /// A redirect is an error (502).
    pub rejects_redirects: bool,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Server {
    /// The backend's answer. With `upgrade` the connections are joined once the backend has switched.
    pub(crate) async fn forward(
        self: &Arc<Self>,
        exchange: &Exchange,
        forward: &Forward,
        body: Sent,
        upgrade: Option<OnUpgrade>,
    ) -> Response<Body> {
        let upgrade = upgrade.filter(|_| exchange.asks_to_switch());
        let switching = upgrade.is_some();
        let asked = self.ask(exchange, forward, body, switching);
        let until = forward.patience.map(|patience| Instant::now() + patience);
        let answer = match until {
            None => asked.await,
            Some(until) => tokio::time::timeout_at(until, asked)
                .await
                .unwrap_or_else(|_| Err(Problem::of("context deadline exceeded"))),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(problem) => return refusal(exchange, forward, &unreachable(forward, &problem, switching)),
        };
        match upgrade {
            None => {
                let answer = pass_on(exchange, forward, answer);
                match (until, self.held(exchange, forward)) {
                    (Some(until), _) => answer.map(|body| body.until(until)),
                    (None, Some(right)) => answer.map(|body| body.held_by(right)),
                    (None, None) => answer,
                }
            }
            Some(client) => self.switch(exchange, forward, client, answer).await,
        }
    }

    /// By what a watch goes on that an extension API server tells. Logs, and connections into a pod, last without one,
    /// as in upstream: of who has begun those it is asked once.
    fn held(&self, exchange: &Exchange, forward: &Forward) -> Option<HeldRight> {
        let user = forward.user.as_ref().filter(|_| exchange.info.verb() == "watch")?;
        HeldRight::of(&self.authorizer, user, exchange)
    }

    async fn ask(
        self: &Arc<Self>,
        exchange: &Exchange,
        forward: &Forward,
        body: Sent,
        switching: bool,
    ) -> Result<Response<Incoming>, Problem> {
        let says_nothing = body.is_end_stream();
        let mut request = Request::new(body);
        *request.method_mut() = exchange.method.clone();
        *request.uri_mut() = forward.target.parse().map_err(|_| Problem::of("invalid request path"))?;
        *request.headers_mut() = request_headers(exchange, forward, switching);
        if says_nothing && [Method::POST, Method::PUT, Method::PATCH].contains(&exchange.method) {
            // Some servers want to be told.
            request.headers_mut().entry(header::CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
        }
        let broken = |error: hyper::Error| Problem::broken_off(&error, switching);
        let keeps = forward.user.is_some() && !switching;
        // Whoever a proxy in front has told of is known by now.
        let told = request.headers().keys().filter(|name| self.authenticator.is_told_by_proxies(name));
        for name in told.cloned().collect::<Vec<_>>() {
            request.headers_mut().remove(name);
        }
        if let Some(user) = &forward.user {
            identity::tell(user, request.headers_mut())
                .map_err(|name| Problem::of(&format!("net/http: invalid header field value for {name:?}")))?;
        }
        while keeps && let Some(mut sender) = self.pool.take(&forward.peer) {
            match sender.try_send_request(request).await {
                Ok(answer) => {
                    self.keep(forward, sender);
                    return Ok(answer);
                }
                // The backend had closed the connection: nothing of the request has been sent.
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(broken(failed.into_error())),
                },
            }
        }
        let mut sender = connect(&forward.peer).await?;
        let answer = sender.send_request(request).await.map_err(broken)?;
        if keeps {
            self.keep(forward, sender);
        }
        Ok(answer)
    }

    /// The connection waits for the next request once this one's answer has been read.
    fn keep(self: &Arc<Self>, forward: &Forward, mut sender: SendRequest<Sent>) {
        let (server, peer) = (self.clone(), forward.peer.clone());
        self.handle().spawn(async move {
            if sender.ready().await.is_ok() {
                server.pool.put(peer, sender);
            }
        });
    }

    async fn switch(
        self: &Arc<Self>,
        exchange: &Exchange,
        forward: &Forward,
        client: OnUpgrade,
        mut answer: Response<Incoming>,
    ) -> Response<Body> {
        let code = answer.status();
        if code != StatusCode::SWITCHING_PROTOCOLS {
            if code.is_client_error() || code.is_server_error() {
                return refused(answer).await;
            }
            let text = format!("invalid upgrade response: status code {}", code.as_u16());
            return refusal(exchange, forward, &status::unknown(&text));
        }
        let backend = hyper::upgrade::on(&mut answer);
        exchange.connection.switched();
        let mut phase = self.phase.subscribe();
        let until_the_end = (exchange.ending(), exchange.lasting.lock().take());
        let right = self.held(exchange, forward);
        self.handle().spawn(async move {
            let _until_the_end = until_the_end;
            let lapsed = async {
                match right {
                    Some(right) => right.lapsed().await,
                    None => std::future::pending().await,
                }
            };
            let joined = async {
                let (Ok(client), Ok(backend)) = (client.await, backend.await) else { return };
                join(TokioIo::new(client), TokioIo::new(backend)).await;
            };
            tokio::select! {
                () = joined => {}
                () = lapsed => {}
                _ = phase.wait_for(|phase| *phase == Phase::Closed) => {}
            }
        });
        let headers = answer.headers().iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        service::switch_protocols(code.as_u16(), headers)
    }
}

/// Copies both ways until either side ends; what it has sent before is delivered.
async fn join(client: impl Stream, backend: impl Stream) {
    let (from_client, mut to_client) = tokio::io::split(client);
    let (from_backend, mut to_backend) = tokio::io::split(backend);
    let mut from_client = BufReader::with_capacity(BUFFER, from_client);
    let mut from_backend = BufReader::with_capacity(BUFFER, from_backend);
    tokio::select! {
        _ = tokio::io::copy_buf(&mut from_client, &mut to_backend) => {}
        _ = tokio::io::copy_buf(&mut from_backend, &mut to_client) => {}
    }
    let closed = async { tokio::join!(to_client.shutdown(), to_backend.shutdown()) };
    let _ = tokio::time::timeout(CLOSING, closed).await;
}

/// What we have to say ourselves, as a Status; in plain text where we aggregate.
fn refusal(exchange: &Exchange, forward: &Forward, told: &Status) -> Response<Body> {
    if forward.user.is_none() {
        return status::refusal_to(exchange, told);
    }
    let mut response = Response::new(Body::full(format!("{}\n", told.message)));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(header::CONTENT_TYPE, TEXT);
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, NO_SNIFFING);
    response
}

fn unreachable(forward: &Forward, problem: &Problem, switching: bool) -> Status {
    if switching && forward.user.is_some() && problem.stage != Stage::Dialing {
        return status::unknown(&problem.text);
    }
    if switching {
        return status::unknown(&format!("error dialing backend: {}", problem.text));
    }
    Status::unavailable(format!("error trying to reach service: {}", problem.text))
}

fn request_headers(exchange: &Exchange, forward: &Forward, switching: bool) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(exchange.headers.len() + 4);
    let named = connection_options(&exchange.headers);
    for (name, value) in exchange.headers.iter() {
        let text = name.as_str();
        let own = PRIVATE.iter().any(|private| text.starts_with(private));
        let of_hop = HOP_BY_HOP.contains(&text) || named.contains(name);
        let replaced = forward.user.is_some() && name == header::HOST;
        if !own && !replaced && !identity::is_claim(name) && (switching || !of_hop) {
            headers.append(name.clone(), value.clone());
        }
    }
    let set = |headers: &mut HeaderMap, name: &'static str, text: &str| {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    let client = exchange.connection.remote.ip().to_string();
    let before = exchange.header("x-forwarded-for").map(|before| format!("{before}, {client}"));
    set(&mut headers, "x-forwarded-for", &before.unwrap_or(client));
    if let (Some(prefix), false) = (&forward.prefix, switching) {
        let path = forward.target.split('?').next().unwrap_or("/");
        set(&mut headers, "x-forwarded-uri", &format!("{prefix}{path}"));
        let own = forward.peer.authority();
        let (host, secure) = if forward.user.is_some() {
            (own.as_str(), true)
        } else {
            (exchange.header(header::HOST).unwrap_or(""), exchange.connection.secure)
        };
        set(&mut headers, "x-forwarded-host", host);
        set(&mut headers, "x-forwarded-proto", if secure { "https" } else { "http" });
    }
    if !switching && takes_trailers(&exchange.headers) {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if !headers.contains_key(header::HOST) {
        set(&mut headers, "host", &forward.peer.authority());
    }
    headers
}

/// Headers that are, as `Connection` says, for this connection alone.
fn connection_options(headers: &HeaderMap) -> Vec<HeaderName> {
    let told = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    told.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok()).collect()
}

/// The one word of `TE` that is for whoever answers in the end.
fn takes_trailers(headers: &HeaderMap) -> bool {
    let told = headers.get_all(header::TE).iter().filter_map(|value| value.to_str().ok());
    told.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case("trailers"))
}

/// The answer of a backend that was only asked over HTTP.
fn pass_on(exchange: &Exchange, forward: &Forward, answer: Response<Incoming>) -> Response<Body> {
    let (mut parts, incoming) = answer.into_parts();
    let redirects = parts.status.is_redirection() && parts.headers.contains_key(header::LOCATION);
    if redirects && forward.rejects_redirects {
        let text = "the backend attempted to redirect this request, which is not permitted";
        let mut response = Response::new(Body::full(text));
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        response.headers_mut().insert(header::CONTENT_TYPE, TEXT);
        return response;
    }
    for name in connection_options(&parts.headers) {
        parts.headers.remove(name);
    }
    for name in HOP_BY_HOP {
        parts.headers.remove(name);
    }
    if let Some(prefix) = &forward.prefix {
        CROSS_ORIGIN.iter().for_each(|name| drop(parts.headers.remove(*name)));
        if let Some(told) = parts.headers.get(header::LOCATION).and_then(|value| value.to_str().ok())
            && let Some(seen) = links(prefix, forward, exchange).seen(told)
            && let Ok(seen) = HeaderValue::from_str(&seen)
        {
            parts.headers.insert(header::LOCATION, seen);
        }
    }
    let page = match &forward.prefix {
        // What is behind a redirect nobody sees.
        Some(prefix) if !parts.headers.contains_key(header::LOCATION) => {
            Page::of(&mut parts.headers, incoming, || links(prefix, forward, exchange))
        }
        _ => Err(incoming),
    };
    let body = page.map_or_else(Body::forwarded, Body::page);
    let mut response = Response::new(if exchange.method == Method::HEAD { Body::empty() } else { body });
    *response.status_mut() = parts.status;
    *response.headers_mut() = parts.headers;
    response
}

/// How what the backend calls itself is told to the client.
fn links(prefix: &str, forward: &Forward, exchange: &Exchange) -> Links {
    Links {
        prefix: prefix.to_owned(),
        backend: [forward.peer.authority(), forward.peer.host.clone()],
        asked: exchange.header(header::HOST).unwrap_or("").to_owned(),
    }
}

/// A refusal to switch, as the backend has put it. Its connection ends here.
async fn refused(answer: Response<Incoming>) -> Response<Body> {
    let (parts, incoming) = answer.into_parts();
    let text = tokio::time::timeout(REFUSAL_TIMEOUT, Limited::new(incoming, REFUSAL_BYTES).collect()).await;
    let text = text.ok().and_then(Result::ok).map(|collected| collected.to_bytes()).unwrap_or_default();
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = parts.status;
    for (name, value) in &parts.headers {
        let length = name == header::CONTENT_LENGTH;
        if !length && !HOP_BY_HOP.contains(&name.as_str()) {
            response.headers_mut().append(name.clone(), value.clone());
        }
    }
    response
}

#[cfg(test)]
mod tests;
