//! The read path: GET, LIST and WATCH from the watch cache.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue, WARNING};
use http::{HeaderMap, Method, Response};
use kubecore_core::authn::UserInfo;
use kubecore_core::protobuf::{self, ProtobufMetadata};
use kubecore_core::status::Status;
use kubecore_core::watch_cache::{PartialMetadata, ReadOptions, Transcoder, check_get};
use rand::Rng;

use crate::accept::{ACCEPTED, ACCEPTED_STREAMS, Form, negotiate};
use crate::authz::HeldRight;
use crate::body::Body;
use crate::exchange::Exchange;
use crate::lifespan::Phase;
use crate::rendering::Rendering;
use crate::routes::Route;
use crate::server::Server;
use crate::status::{PROTOBUF, put_usual, refusal, refusal_to};
use crate::watch_body::WatchBody;

/// Of most answers: of what media they are, how long they may be kept, and by whose names they are known.
const HEADERS: usize = 6;
const PROTOBUF_STREAM: HeaderValue = HeaderValue::from_static(protobuf::STREAM_CONTENT_TYPE);

impl Server {
    /// The answer to a read that the cache can give; None hands it to Python.
    pub(crate) fn read(
        self: &Arc<Self>,
        exchange: &Exchange,
        user: Option<&Arc<UserInfo>>,
    ) -> Option<Response<Body>> {
        if exchange.method != Method::GET || exchange.info.is_odd() {
            return None;
        }
        let route = self.routes.for_read(&exchange.info)?;
        let verb = exchange.info.verb();
        if verb == "watch" && exchange.asks_for_websocket() {
            return None;
        }
        let form = negotiate(exchange.accept(), route.protobuf.is_some());
        let transcoder: Arc<dyn Transcoder> = match form {
            Form::Json => route.json.clone(),
            Form::Metadata if verb != "list" => Arc::new(PartialMetadata),
            Form::MetadataList if verb != "get" => Arc::new(PartialMetadata),
            Form::Protobuf => route.protobuf.clone()?,
            Form::ProtobufMetadata if verb != "list" => Arc::new(ProtobufMetadata),
            Form::ProtobufMetadataList if verb != "get" => Arc::new(ProtobufMetadata),
            // A list where one object was asked for, or the other way round: Python says so.
            Form::Metadata | Form::MetadataList | Form::ProtobufMetadata | Form::ProtobufMetadataList => {
                return None;
            }
            Form::Python => return None,
            Form::Nothing => {
                return Some(self.render(exchange, refusal_to(exchange, &Status::not_acceptable(&ACCEPTED))));
            }
            Form::Unknown => {
                let made = if verb == "get" { &ACCEPTED[..] } else { &ACCEPTED_STREAMS[..] };
                return Some(self.render(exchange, refusal(&Status::no_representation(made))));
            }
        };
        let answered = match verb {
            "get" => self.get(exchange, &route, &*transcoder, form),
            "list" => self.list(exchange, &route, &*transcoder, form),
            _ => self.watch((exchange, user), &route, transcoder, form),
        };
        let mut response =
            answered.unwrap_or_else(|status| self.render(exchange, refusal_to(exchange, &status)));
        if let Some(warning) = &route.warning {
            response.headers_mut().append(WARNING, warning.clone());
        }
        Some(response)
    }

    fn get(
        self: &Arc<Self>,
        exchange: &Exchange,
        route: &Route,
        transcoder: &dyn Transcoder,
        form: Form,
    ) -> Result<Response<Body>, Status> {
        let info = &exchange.info;
        if !exchange.query.is_empty() {
            check_get(&exchange.query, route.cache.reached())?;
        }
        let key = if route.namespaced { info.key() } else { info.name() };
        let Some(object) = route.cache.get_by_key(key) else {
            return Err(Status::not_found(info.group(), info.resource(), info.name()));
        };
        let body = route.cache.render(&object, transcoder)?;
        if !form.is_protobuf() {
            exchange.answered_with(std::slice::from_ref(&body));
        } else if exchange.tells_answers() {
            exchange.answered_with(&[route.cache.render(&object, &*route.json)?]);
        }
        let mut headers = headers(exchange, form);
        let rendering = Rendering::of(exchange, body.len());
        let body = rendering.whole(self, body, !form.is_protobuf(), &mut headers);
        Ok(response(body, headers))
    }

    fn list(
        self: &Arc<Self>,
        exchange: &Exchange,
        route: &Route,
        transcoder: &dyn Transcoder,
        form: Form,
    ) -> Result<Response<Body>, Status> {
        let options = ReadOptions::parse(&exchange.query)?;
        let query = options.list_query(route.cache.info(), namespace_of(exchange, route), None)?;
        let list = route.cache.list(&query, transcoder)?;
        if form.is_protobuf() && exchange.tells_answers() {
            exchange.answered_with(&route.cache.list(&query, &*route.json)?.segments);
        } else {
            exchange.answered_with(&list.segments);
        }
        let mut rendering = Rendering::of(exchange, list.length);
        rendering.pretty &= !form.is_protobuf();
        let mut headers = headers(exchange, form);
        rendering.label(&mut headers);
        let body = if rendering == Rendering::default() {
            Body::pieces(list.segments)
        } else {
            rendering.body(self, list.segments, list.length)
        };
        Ok(response(body, headers))
    }

    fn watch(
        self: &Arc<Self>,
        (exchange, user): (&Exchange, Option<&Arc<UserInfo>>),
        route: &Route,
        transcoder: Arc<dyn Transcoder>,
        form: Form,
    ) -> Result<Response<Body>, Status> {
        if *self.phase.borrow() != Phase::Serving {
            return Err(Status::unavailable("apiserver is shutting down."));
        }
        let options = ReadOptions::parse(&exchange.query)?;
        let query = options.watch_query(route.cache.info(), namespace_of(exchange, route), None)?;
        let bookmarks = query.bookmarks;
        let watcher = route.cache.watch(query, transcoder)?;
        let lasts = match options.timeout_seconds {
            0 => unasked(self.limits.min_watch),
            seconds => Duration::from_secs(seconds.try_into().unwrap_or(0)),
        };
        let right = user.and_then(|user| HeldRight::of(&self.authorizer, user, exchange));
        // One that Python had to say more of has been counted as soon as it came there.
        let known = exchange.lasting.lock().take();
        let counted = known.unwrap_or_else(|| self.metrics.lasts(exchange, || true));
        let watch = WatchBody::new(self, watcher, lasts, bookmarks, right, counted);
        let mut headers = headers(exchange, form);
        if form.is_protobuf() {
            headers.insert(CONTENT_TYPE, PROTOBUF_STREAM);
        }
        Ok(response(Body::watch(watch), headers))
    }
}

/// How long a watch lasts that does not say so: once to twice the least, so that not all watches begin again at once.
fn unasked(least: Duration) -> Duration {
    least.mul_f64(rand::rng().random_range(1.0..2.0))
}

/// None: all namespaces.
fn namespace_of<'e>(exchange: &'e Exchange, route: &Route) -> Option<&'e str> {
    Some(exchange.info.namespace()).filter(|namespace| route.namespaced && !namespace.is_empty())
}

/// Those of an answer in that form, but for what the chain says of all answers.
fn headers(exchange: &Exchange, form: Form) -> HeaderMap {
    let mut headers = match exchange.seat() {
        Some(seat) => seat.headers(),
        None => {
            // With room for the chain's, so that they need not be moved when there are more.
            let mut headers = HeaderMap::with_capacity(HEADERS);
            put_usual(&mut headers);
            headers
        }
    };
    if form.is_protobuf() {
        headers.insert(CONTENT_TYPE, PROTOBUF);
    }
    headers
}

fn response(body: Body, headers: HeaderMap) -> Response<Body> {
    let mut response = Response::new(body);
    *response.headers_mut() = headers;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ../shared/API_SEMANTICS.md, line 8.
    #[test]
    fn a_watch_without_a_timeout_lasts_once_to_twice_the_least() {
        let least = Duration::from_secs(1800);
        let drawn: Vec<_> = (0..1000).map(|_| unasked(least)).collect();
        assert!(drawn.iter().all(|lasts| (least..2 * least).contains(lasts)));
        // Of a thousand even draws none but one in 10^45 leaves a tenth of the range empty.
        assert!(drawn.iter().any(|lasts| *lasts < least.mul_f64(1.1)));
        assert!(drawn.iter().any(|lasts| *lasts > least.mul_f64(1.9)));
    }
}
