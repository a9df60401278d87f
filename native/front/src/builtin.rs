//! Endpoints that are no resources and need nobody: version, health, metrics.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Response};
use kubecore_core::status::Status;

use crate::accept::{ACCEPTED, passes_the_router};
use crate::body::Body;
use crate::exchange::Exchange;
use crate::metrics::{render_caches, render_registered};
use crate::server::Server;
use crate::status::{APPLICATION_JSON, refusal_to};

const PROMETHEUS: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8; escaping=underscores");

impl Server {
    /// The answer of a built-in endpoint; None for other paths. How a server is may be asked by any method.
    pub(crate) fn builtin(self: &Arc<Self>, exchange: &Exchange) -> Option<Response<Body>> {
        let path = exchange.info.path();
        if path == "/version" || path == "/version/" {
            if exchange.method != Method::GET {
                return Some(refusal_to(exchange, &Status::method_not_allowed()));
            }
            if !passes_the_router(exchange.accept(), &ACCEPTED[..1]) {
                return Some(refusal_to(exchange, &Status::no_representation(&ACCEPTED[..1])));
            }
            let mut response = Response::new(Body::full(self.version.load().as_ref().clone()));
            response.headers_mut().insert(CONTENT_TYPE, APPLICATION_JSON);
            return Some(response);
        }
        if path == "/metrics/slis" && exchange.method != Method::DELETE {
            return Some(prometheus(self.health.render()));
        }
        self.health.answer(path, &exchange.query).or_else(|| self.dumped(exchange))
    }

    pub(crate) fn asks_metrics(&self, exchange: &Exchange) -> bool {
        // By any method, as how a server is; upstream forgets what it has counted where that is to be deleted.
        !exchange.info.is_resource()
            && exchange.info.path() == "/metrics"
            && exchange.method != Method::DELETE
    }

    /// Our own metrics, unless the source is to be told alone, and those of the source, which may block.
    pub(crate) async fn metrics_answer(self: Arc<Self>) -> Response<Body> {
        let source = self.metrics_source.read().clone();
        let alone = source.as_ref().is_some_and(|source| source.alone);
        let mut text = if alone { Vec::new() } else { self.own_metrics().into_bytes() };
        if let Some(source) = source
            && let Ok(more) = self.handle().spawn_blocking(move || (source.render)()).await
        {
            text.extend_from_slice(&more);
        }
        let registered = render_registered(&text);
        text.extend_from_slice(registered.as_bytes());
        prometheus(text)
    }
    fn own_metrics(&self) -> String {
        let own =
            self.metrics.render() + &self.judged.render() + &self.audit.render() + &self.inflight.render();
        let caches = self.routes.caches();
        let caches: Vec<_> =
            caches.iter().map(|(group, plural, cache)| (&**group, &**plural, &**cache)).collect();
        own + &self.authenticator.expirations.render()
            + &self.authenticator.tokens.render()
            + &render_caches(&caches)
            + &self.authorizer.decided.render()
            + &self.flow.render(self.clock.monotonic())
    }
}

fn prometheus(text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::full(text));
    response.headers_mut().insert(CONTENT_TYPE, PROMETHEUS);
    response
}
