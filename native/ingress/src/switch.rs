//! WebSockets and other protocols that a connection is switched to: from then on bytes go both ways as they are.

use std::sync::atomic::Ordering::Relaxed;

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use kubecore_core::balance::Connection;
use kubecore_front::lifespan::Phase;

use crate::answers;
use crate::body::{AnswerBody, Exchange, RequestBody};
use crate::channel::told;
use crate::forward::{Forwarding, Tried, unreachable};
use crate::headers;
use crate::record::Record;
use crate::shared::Shared;
use crate::transport::Transport;

const COPY_BUFFER: usize = 16 << 10;

/// Asks a destination to switch, on a connection of its own, and passes its answer on.
pub async fn answer(
    mut forwarding: Forwarding,
    mut parts: Parts,
    protocol: HeaderValue,
    on_client: OnUpgrade,
) -> Response<AnswerBody> {
    parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(UPGRADE, protocol);
    let options = forwarding.shared.options.clone();
    let mut tried = Tried::new();
    let mut last = (StatusCode::SERVICE_UNAVAILABLE, "no destination".to_owned());
    while tried.len() < options.attempts {
        let Some(connection) = forwarding.pick(&tried) else { break };
        let address = connection.destination().address();
        forwarding.record.sent_to(address);
        let stream = match forwarding.terms.connect(address).await {
            Ok(stream) => stream,
            Err(error) => {
                last = (unreachable(&error), format!("{address}: {error}"));
                forwarding.retry(&mut tried, address);
                continue;
            }
        };
        let asked =
            tokio::time::timeout(forwarding.terms.read_timeout, ask(&forwarding.shared, stream, parts));
        return match asked.await {
            Ok(Ok(response)) => switched(forwarding, response, connection, on_client),
            Ok(Err(error)) => {
                let why = format!("{address}: {}", told(&error));
                answers::own(StatusCode::BAD_GATEWAY, &why, false, forwarding.record, forwarding.busy)
            }
            Err(_) => {
                let why = format!("{address}: no answer in time");
                answers::own(StatusCode::GATEWAY_TIMEOUT, &why, false, forwarding.record, forwarding.busy)
            }
        };
    }
    answers::own(last.0, &last.1, false, forwarding.record, forwarding.busy)
}

async fn ask(shared: &Shared, stream: Transport, parts: Parts) -> hyper::Result<Response<Incoming>> {
    let mut builder = http1::Builder::new();
    builder.max_header_size(shared.options.max_header_bytes);
    let (mut sender, driver) = builder.handshake(TokioIo::new(stream)).await?;
    // Whoever waits for the answer is told when it breaks.
    shared.runtime.spawn(async move { drop(driver.with_upgrades().await) });
    sender.send_request(Request::from_parts(parts, RequestBody::empty())).await
}

fn switched(
    forwarding: Forwarding,
    mut response: Response<Incoming>,
    connection: Connection,
    on_client: OnUpgrade,
) -> Response<AnswerBody> {
    let Forwarding { shared, terms, mut record, busy, .. } = forwarding;
    record.status = response.status().as_u16();
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (mut parts, incoming) = response.into_parts();
        headers::strip_hop_by_hop(&mut parts.headers);
        parts.extensions.clear();
        let exchange = Exchange { shared, channel: None, connection };
        return Response::from_parts(
            parts,
            AnswerBody::of_destination(incoming, exchange, record, busy, terms.read_timeout),
        );
    }
    let on_destination = hyper::upgrade::on(&mut response);
    let (mut parts, _) = response.into_parts();
    let protocol = parts.headers.get(UPGRADE).cloned();
    headers::strip_hop_by_hop(&mut parts.headers);
    parts.extensions.clear();
    parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(protocol) = protocol {
        parts.headers.insert(UPGRADE, protocol);
    }
    shared.counters.upgraded.fetch_add(1, Relaxed);
    let mut closed = shared.phase.subscribe();
    let runtime = shared.runtime.clone();
    runtime.spawn(async move {
        tokio::select! {
            () = carry(on_client, on_destination, connection, record) => {}
            _ = closed.wait_for(|phase| *phase == Phase::Closed) => {}
        }
    });
    Response::from_parts(parts, AnswerBody::own(bytes::Bytes::new(), None, Some(busy)))
}

/// Until both sides have ended, or one broke.
async fn carry(on_client: OnUpgrade, on_destination: OnUpgrade, _connection: Connection, mut record: Record) {
    let (Ok(client), Ok(destination)) = (on_client.await, on_destination.await) else { return };
    let (mut client, mut destination) = (TokioIo::new(client), TokioIo::new(destination));
    let copied =
        tokio::io::copy_bidirectional_with_sizes(&mut client, &mut destination, COPY_BUFFER, COPY_BUFFER)
            .await;
    match copied {
        Ok((_, to_client)) => record.bytes = to_client,
        Err(error) => record.failed(error.to_string()),
    }
}
