//! What a request is answered with, whatever happens on the way.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use http::header::{CACHE_CONTROL, HeaderValue};
use http::{Request, Response};
use kubecore_core::status::Status;

use crate::audit;
use crate::body::Body;
use crate::connection::{Busy, Connection};
use crate::request_body::Sent;
use crate::server::Server;
use crate::service::AUDIT_ID;
use crate::status::{self, NO_CACHE};

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

/// What every answer has, whoever made it.
fn complete(response: &mut Response<Body>, audit_id: Option<HeaderValue>, busy: Busy) {
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(NO_CACHE);
    headers.insert(AUDIT_ID, audit_id.unwrap_or_else(audit::new_id));
    response.body_mut().keep_busy(busy);
}

/// What stands in when our own code has failed; the details went to stderr with the panic.
fn broken() -> Response<Body> {
    status::refusal(&Status::internal("the request handler failed"))
}

fn broken_off(panic: &(dyn Any + Send)) -> Response<Body> {
    audit::tell_panic(panic);
    broken()
}

impl Server {
    /// Answers one request. A panic on the way becomes a 500.
    pub fn answer(self: &Arc<Self>, connection: &Arc<Connection>, request: Request<Sent>) -> Answer {
        let busy = Busy::begin(connection);
        if let Some(outflow) = &connection.outflow {
            outflow.asked();
        }
        let given = request.headers().get(AUDIT_ID).filter(|given| !given.is_empty()).cloned();
        let is_told = given.is_none() && (self.audit.is_on() || self.delegation.is_any());
        let made = is_told.then(audit::new_id);
        let answer =
            catch_unwind(AssertUnwindSafe(|| self.chain(connection, request, given.as_ref(), made.as_ref())));
        let audit_id = given.or(made);
        connection.pace.answers(matches!(answer, Ok(Answer::Ready(_))));
        match answer {
            Ok(Answer::Ready(Some(mut response))) => {
                complete(&mut response, audit_id, busy);
                Answer::Ready(Some(response))
            }
            Ok(Answer::Waiting(waiting)) => Answer::Waiting(Box::pin(async move {
                let answered = AssertUnwindSafe(waiting).catch_unwind().await;
                let mut response = answered.unwrap_or_else(|panic| broken_off(&*panic));
                complete(&mut response, audit_id, busy);
                response
            })),
            Ok(Answer::Ready(None)) => Answer::Ready(Some(broken())),
            Err(panic) => {
                let mut response = broken_off(&*panic);
                complete(&mut response, audit_id, busy);
                Answer::Ready(Some(response))
            }
        }
    }
}
