//! What a request is answered with, whatever happens on the way.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use kubecore_core::status::Status;

use crate::audit;
use crate::body::Body;
use crate::connection::{Busy, Connection};
use crate::headers::{Name, Names};
use crate::request_body::Sent;
use crate::server::Server;
use crate::status::{self, NO_CACHE};

/// Names a request in logs; the client's own, or one that is made.
pub(crate) const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

pub(crate) type Waiting = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// An answer: at once when no Python and no body is needed, without a boxed future.
pub enum Answer {
    Ready(Option<Response<Body>>),
    Waiting(Waiting),
}

impl Future for Answer {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Ready(response) => Poll::Ready(Ok(response.take().unwrap_or_else(broken))),
            Self::Waiting(waiting) => waiting.as_mut().poll(cx).map(Ok),
        }
    }
}

/// What every answer gets, whoever made it.
struct Completion {
    audit_id: Option<HeaderValue>,
    busy: Busy,
    /// HEAD has been asked for: the body is only measured. (hyper sees to it in HTTP/1.1.)
    headers_only: bool,
}

impl Completion {
    fn complete(self, response: &mut Response<Body>) {
        let length = response.body().size_hint().exact().filter(|length| self.headers_only && *length > 0);
        let headers = response.headers_mut();
        headers.entry(CACHE_CONTROL).or_insert(NO_CACHE);
        headers.insert(AUDIT_ID, self.audit_id.unwrap_or_else(audit::new_id));
        if let Some(length) = length {
            headers.entry(CONTENT_LENGTH).or_insert(length.into());
        }
        if self.headers_only {
            response.body_mut().clear();
        }
        response.body_mut().keep_busy(self.busy);
    }
}

/// What stands in when our own code has failed; the details went to stderr with the panic.
fn broken() -> Response<Body> {
    status::refusal(&Status::internal("the request handler failed"))
}

fn broken_off(panic: &(dyn Any + Send)) -> Response<Body> {
    audit::tell_panic(panic);
    broken()
}

/// Where there is more of a body that nobody wants, this is the connection's last answer.
async fn behind_body(connection: &Connection, response: &mut Response<Body>) {
    if !connection.unwanted.is_over().await && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

impl Server {
    /// Answers one request. A panic on the way becomes a 500.
    pub fn answer(self: &Arc<Self>, connection: &Arc<Connection>, request: Request<Sent>) -> Answer {
        let busy = Busy::begin(connection);
        if let Some(outflow) = &connection.outflow {
            outflow.asked(request.body().size_hint().exact());
        }
        let headers_only = request.method() == Method::HEAD && request.version() == Version::HTTP_2;
        let names = Names::among(request.headers());
        let given = names.first(Name::AuditId, request.headers()).filter(|given| !given.is_empty()).cloned();
        let is_told = given.is_none() && (self.audit.is_on() || self.delegation.is_any());
        let made = is_told.then(audit::new_id);
        let with_body = connection.outflow.is_some() && !request.body().is_end_stream();
        let with_body = with_body.then(|| connection.clone());
        let answer = catch_unwind(AssertUnwindSafe(|| {
            self.chain(connection, request, names, given.as_ref(), made.as_ref())
        }));
        let more = Completion { audit_id: given.or(made), busy, headers_only };
        let mut response = match answer {
            Ok(Answer::Ready(response)) => response.unwrap_or_else(broken),
            Ok(Answer::Waiting(waiting)) => {
                return Answer::Waiting(Box::pin(async move {
                    let answered = AssertUnwindSafe(waiting).catch_unwind().await;
                    let mut response = answered.unwrap_or_else(|panic| broken_off(&*panic));
                    more.complete(&mut response);
                    if let Some(connection) = with_body {
                        behind_body(&connection, &mut response).await;
                    }
                    response
                }));
            }
            Err(panic) => broken_off(&*panic),
        };
        more.complete(&mut response);
        match with_body {
            Some(connection) => Answer::Waiting(Box::pin(async move {
                behind_body(&connection, &mut response).await;
                response
            })),
            None => Answer::Ready(Some(response)),
        }
    }
}
