//! What metrics, audit and flow control hear of the chain's answers.

use std::time::Instant;

use http::header::{HeaderValue, WARNING};
use http::{HeaderMap, Response, StatusCode};
use http_body::Body as _;

use super::{Answered, Terminated};
use crate::audit::lasts;
use crate::authn::is_spaced;
use crate::body::Body;
use crate::exchange::Exchange;
use crate::server::Server;

const SPACED: HeaderValue = HeaderValue::from_static(
    "299 - \"the provided Authorization header contains extra space before the bearer token, and is ignored\"",
);

impl Server {
    pub(crate) fn told(&self, exchange: &Exchange, mut response: Response<Body>) -> Response<Body> {
        self.remark(exchange, response.headers_mut());
        if matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
            && is_spaced(&exchange.headers)
        {
            response.headers_mut().append(WARNING, SPACED);
        }
        let answered = Answered {
            code: response.status().as_u16(),
            size: response.body().size_hint().exact(),
            terminated: response.extensions().get::<Terminated>().is_some(),
        };
        let now = Instant::now();
        self.metrics.record(exchange, &answered, now, || self.routes.knows(&exchange.info));
        if lasts(&exchange.info)
            && let Some(lasting) = exchange.lasting.lock().take()
        {
            response.body_mut().lasts(lasting);
        }
        let response = self.audited(exchange, response, now);
        self.seated(exchange, response)
    }

    /// What is said of the token that the client came with, unless it is known by a certificate.
    fn remark(&self, exchange: &Exchange, headers: &mut HeaderMap) {
        if exchange.connection.identity.is_some() {
            return;
        }
        let Some(remarks) = self.authenticator.remarks(&exchange.headers) else { return };
        if let Some(warning) = &remarks.warning {
            headers.append(WARNING, warning.clone());
        }
        if let Some(trail) = exchange.trail() {
            for (key, value) in &remarks.annotations {
                trail.annotate(key.clone(), value.clone());
            }
        }
    }

    /// The request is about to be worked on, and counts as long as it lasts, if it does.
    pub(crate) fn count_lasting(&self, exchange: &Exchange) {
        if lasts(&exchange.info) {
            let is_known = || self.routes.knows(&exchange.info);
            *exchange.lasting.lock() = Some(self.metrics.lasts(exchange, is_known));
        }
    }
}
