//! The handler chain: one request from its head to its answer.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use kubecore_core::authn::UserInfo;
use kubecore_core::go::parse_duration;
use kubecore_core::status::Status;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::answering::{AUDIT_ID, Answer};
use crate::audit::{self, LONG_RUNNING, Layer, Struck};
use crate::authn::{Outcome, take_offered_token};
use crate::authz::Verdict;
use crate::body::Body;
use crate::connection::Connection;
use crate::exchange::{Apart, Decisions, Exchange};
use crate::flow::{Admission, Wait};
use crate::handoff::{self, Pending, Presence, PresenceGuard, Reply};
use crate::headers::{Headers, Name, Names};
use crate::hosts;
use crate::inflight;
use crate::judged::Authorization;
use crate::lifespan::Phase;
use crate::metrics::Terminated;
use crate::query::Query;
use crate::rebinding;
use crate::request_body::{Sent, Untaken};
use crate::request_info::RequestInfo;
use crate::server::Server;
use crate::status;

/// Who asks.
enum Known {
    User(Arc<UserInfo>),
    /// For Python to say.
    Open,
    Refused(Status),
}

impl Server {
    /// Reads top to bottom: limits, request info, authentication, flow control, authorization, then whoever serves it.
    pub(crate) fn chain(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        mut request: Request<Sent>,
        mut names: Names,
        given: Option<&HeaderValue>,
        made: Option<&HeaderValue>,
    ) -> Answer {
        let started = Instant::now();
        if names.bytes > self.limits.max_header_bytes {
            return refuse(&status::headers_too_large(self.limits.max_header_bytes));
        }
        if request.version() == Version::HTTP_10 {
            // Not heeded (RFC 9110, 7.8).
            request.headers_mut().remove(UPGRADE);
            names = Names::among(request.headers());
        }
        // Taken before the request is split, while it still holds the connection's other half.
        let upgrade = names.has(Name::Upgrade).then(|| hyper::upgrade::on(&mut request));
        let (mut parts, sent) = request.into_parts();
        if upgrade.is_some() {
            take_offered_token(&mut parts.headers);
            names = Names::among(&parts.headers);
        }
        let headers = Headers::known(parts.headers, names);
        let incoming = Untaken::new(sent, connection, &headers, self.limits.unwanted_body_timeout);
        if let Some(fault) = hosts::fault_of_host(parts.version, &parts.method, &headers) {
            return Answer::Ready(Some(status::bad_host(fault)));
        }
        if expects_otherwise(parts.version, &headers) {
            return refuse(&status::expects_otherwise());
        }
        if parts.method == Method::OPTIONS && parts.uri.path() == "*" {
            // Go's server answers it by itself, with nothing.
            return Answer::Ready(Some(Response::new(Body::empty())));
        }
        let query = parts.uri.query().unwrap_or("");
        let Ok(info) = RequestInfo::of(&parts.method, parts.uri.path(), query) else {
            return refuse(&Status::bad_request("the request path is not valid"));
        };
        let audit = self.draft(&headers, given.or(made), &parts.uri, connection.remote.ip(), &info, started);
        let mut exchange = Exchange {
            audit,
            audit_id: made.cloned(),
            method: parts.method,
            headers,
            query: query.to_owned(),
            delegated: self.delegation.covers(&info),
            info,
            connection: connection.clone(),
            started,
            seat: None,
            late_seat: OnceLock::new(),
            lasting: Mutex::new(None),
            sampled: OnceLock::new(),
            apart: Apart::default(),
        };
        connection.asked_for(&exchange.info);
        let mut decisions = Decisions::default();
        let known = match misjudged_time(&exchange) {
            None => self.identify(&exchange, &mut decisions),
            Some(refused) => {
                exchange.begin_audit_of(&refused);
                Known::Refused(refused)
            }
        };
        match known {
            Known::Refused(refused) => self.refuse_to(&exchange, &refused),
            Known::Open => self.dispatch(exchange, decisions, incoming, upgrade),
            Known::User(user) => {
                let now = decisions.known_at.unwrap_or_else(Instant::now);
                match self.seat_for(now, &user, &exchange.info, &exchange.query) {
                    Admission::Free => self.go_on(exchange, decisions, incoming, upgrade),
                    Admission::Seated(seat) => {
                        exchange.seat = Some(seat);
                        self.go_on(exchange, decisions, incoming, upgrade)
                    }
                    Admission::Refused(refusal) => self.unseated(&exchange, &decisions, &refusal),
                    Admission::Waiting(wait) => {
                        self.go_on_seated(wait, exchange, decisions, incoming, upgrade)
                    }
                }
            }
        }
    }

    /// Once it has its seats, unless it waits for them in vain.
    fn go_on_seated(
        self: &Arc<Self>,
        wait: Wait,
        mut exchange: Exchange,
        decisions: Decisions,
        incoming: Untaken,
        upgrade: Option<OnUpgrade>,
    ) -> Answer {
        let server = self.clone();
        exchange.tell_arrival();
        Answer::Waiting(Box::pin(async move {
            let began = Instant::now();
            let seated = wait.seated().await;
            exchange.waited_for_seat(began.elapsed());
            let answer = match seated {
                Ok(seat) => {
                    exchange.seat = Some(seat);
                    server.go_on(exchange, decisions, incoming, upgrade)
                }
                Err(refusal) => server.unseated(&exchange, &decisions, &refusal),
            };
            answer.await.unwrap_or_else(|never| match never {})
        }))
    }

    /// Authorization, where it has not been decided, and what follows.
    fn go_on(
        self: &Arc<Self>,
        exchange: Exchange,
        mut decisions: Decisions,
        incoming: Untaken,
        upgrade: Option<OnUpgrade>,
    ) -> Answer {
        if decisions.authorized.is_none()
            && let Some(refused) = self.authorize(&exchange, &mut decisions)
        {
            let response = self.render(&exchange, status::forbidden_to(&exchange, &refused));
            return self.finish(&exchange, response);
        }
        self.dispatch(exchange, decisions, incoming, upgrade)
    }

    /// Authentication: fills in `decisions`.
    fn identify(&self, exchange: &Exchange, decisions: &mut Decisions) -> Known {
        let connection = &exchange.connection;
        if !connection.secure {
            if let Some(refused) = rebinding::refusal(&exchange.headers) {
                exchange.begin_audit(None);
                return Known::Refused(refused);
            }
            let user = Arc::new(UserInfo::unsecured());
            decisions.user = Some(user.clone());
            decisions.authenticated = Some(true);
            decisions.authorized = Some(true);
            let refused = exchange.begin_audit(Some(&user));
            return refused.map_or(Known::User(user), Known::Refused);
        }
        let user = match self.authenticator.authenticate(
            connection.identity.as_ref(),
            &connection.token,
            &exchange.headers,
            exchange.info.path(),
            exchange.started,
        ) {
            Outcome::Rejected => {
                connection.asked_by_stranger();
                self.count_stranger(exchange);
                exchange.begin_audit(None);
                return Known::Refused(Status::unauthorized());
            }
            Outcome::Unknown => return Known::Open,
            Outcome::User(user) => user,
        };
        if connection.outflow.is_none() && user.is_anonymous() {
            connection.asked_by_stranger();
        }
        self.count_known(exchange, &user, decisions);
        decisions.user = Some(user.clone());
        decisions.authenticated = Some(true);
        if let Some(refused) = exchange.begin_audit(Some(&user)) {
            return Known::Refused(refused);
        }
        if let (Some(trail), Some(known)) = (exchange.trail(), decisions.known_at) {
            trail.took(Layer::Authentication, known.saturating_duration_since(exchange.started));
        }
        // Whether the user may impersonate, and whom it becomes, is for Python; it resumes as that user.
        if exchange.impersonates() { Known::Open } else { Known::User(user) }
    }

    fn authorize(&self, exchange: &Exchange, decisions: &mut Decisions) -> Option<Status> {
        let user = decisions.user.as_ref()?;
        let began = self.begin_authorization(exchange, decisions);
        let trail = exchange.trail();
        let judged = self.authorizer.judge(user, &exchange.info, || exchange.selectors(), trail.is_some());
        let denied = matches!(judged.verdict, Verdict::Deny(_));
        let took = began.elapsed();
        if let Some(trail) = trail {
            trail.took(Layer::Authorization, took);
        }
        match judged.verdict {
            Verdict::Allow => {
                self.judged.authorized(Authorization::Allowed, took);
                decisions.authorized = Some(true);
                if let Some(trail) = trail {
                    trail.decided("allow", judged.why.unwrap_or_default());
                }
            }
            Verdict::Python => decisions.authorized = None,
            Verdict::Deny(reason) | Verdict::NoOpinion(reason) => {
                let how = if denied { Authorization::Denied } else { Authorization::NoOpinion };
                self.judged.authorized(how, took);
                decisions.authorized = Some(false);
                self.audit_decision(exchange, user, Some(&reason));
                return Some(status::forbidden(&user.username, &exchange.attributes(), &reason));
            }
        }
        None
    }

    /// Built-in endpoints, then the read path, then Python.
    fn dispatch(
        self: &Arc<Self>,
        exchange: Exchange,
        decisions: Decisions,
        incoming: Untaken,
        upgrade: Option<OnUpgrade>,
    ) -> Answer {
        if decisions.authorized == Some(true) && !may_switch(&exchange, upgrade.as_ref()) {
            if self.asks_metrics(&exchange) {
                let server = self.clone();
                return Answer::Waiting(Box::pin(async move {
                    let response = server.clone().metrics_answer().await;
                    server.told(&exchange, response)
                }));
            }
            if let Some(turn) = self.turn_of(&exchange, decisions.user.as_deref()) {
                let server = self.clone();
                return Answer::Waiting(Box::pin(async move {
                    // Nobody to tell it means that the server ends.
                    let _ = turn.await;
                    let answer = server.answer_here(exchange, decisions, incoming, None);
                    answer.await.unwrap_or_else(|never| match never {})
                }));
            }
        }
        self.answer_here(exchange, decisions, incoming, upgrade)
    }

    fn answer_here(
        self: &Arc<Self>,
        mut exchange: Exchange,
        decisions: Decisions,
        incoming: Untaken,
        upgrade: Option<OnUpgrade>,
    ) -> Answer {
        if decisions.authorized == Some(true)
            && !may_switch(&exchange, upgrade.as_ref())
            && !exchange.delegated
            && !self.tracing.takes(&exchange, decisions.user.as_deref())
            && let Some(response) = self.serve_here(&exchange, decisions.user.as_ref())
        {
            return self.finish(&exchange, response);
        }
        if *self.phase.borrow() != Phase::Serving {
            let refused = Status::unavailable("apiserver is shutting down.");
            return self.finish(&exchange, status::refusal_to(&exchange, &refused));
        }
        if let Some(id) = exchange.audit_id.take() {
            // Who answers in our stead tells of the request by the same.
            exchange.headers.insert(AUDIT_ID, id);
        }
        let server = self.clone();
        Answer::Waiting(Box::pin(async move {
            let exchange = Arc::new(exchange);
            let _struck = Struck(exchange.clone());
            let verb = exchange.info.verb();
            let place = server.inflight.enter(verb, audit::lasts(&exchange.info), decisions.user.as_deref());
            let Some(_place) = place else {
                return server.told(&exchange, inflight::too_many(inflight::RETRY_SECONDS));
            };
            let _counted = server.metrics.in_flight(verb);
            server.count_lasting(&exchange);
            let response = match server.take_body(incoming, &exchange).await {
                Ok((body, unread)) => server.hand_over(&exchange, decisions, body, unread, upgrade).await,
                Err(refused) => server.render(&exchange, status::refusal_to(&exchange, &refused)),
            };
            server.told(&exchange, response)
        }))
    }

    /// What is answered without Python; None when it is not ours.
    fn serve_here(
        self: &Arc<Self>,
        exchange: &Exchange,
        user: Option<&Arc<UserInfo>>,
    ) -> Option<Response<Body>> {
        if exchange.info.is_resource() { self.read(exchange, user) } else { self.builtin(exchange) }
    }

    pub(crate) fn finish(&self, exchange: &Exchange, response: Response<Body>) -> Answer {
        Answer::Ready(Some(self.told(exchange, response)))
    }

    fn refuse_to(self: &Arc<Self>, exchange: &Exchange, refused: &Status) -> Answer {
        self.finish(exchange, self.refusal(exchange, refused))
    }

    /// Gives the request to Python and waits for the answer; comes back here when Python resumes it.
    async fn hand_over(
        self: &Arc<Self>,
        exchange: &Arc<Exchange>,
        mut decisions: Decisions,
        body: Bytes,
        unread: Option<Sent>,
        upgrade: Option<OnUpgrade>,
    ) -> Response<Body> {
        loop {
            exchange.tell_arrival();
            let (reply, answer) = oneshot::channel();
            let presence = Arc::new(Presence::default());
            let guard = PresenceGuard::new(presence.clone(), self.handoff.clone());
            let pending = Box::new(Pending {
                exchange: exchange.clone(),
                decisions: decisions.clone(),
                body: body.clone(),
                presence,
                reply,
            });
            if self.handoff.push(pending).is_err() {
                guard.answered();
                let mut refused = status::refusal_to(exchange, &status::overloaded());
                refused.extensions_mut().insert(Terminated);
                return refused;
            }
            let reply = answer.await;
            guard.answered();
            match reply {
                Err(_) => {
                    let lost = Status::internal("the request was dropped unanswered");
                    return status::refusal_to(exchange, &lost);
                }
                Ok(Reply::Full { status, headers, body }) => {
                    if exchange.is_unaudited() {
                        exchange.begin_audit(None);
                    }
                    if decisions.user.is_none() && status == 401 {
                        exchange.connection.asked_by_stranger();
                    }
                    return self.render(exchange, assemble(status, headers, Body::full(body)));
                }
                Ok(Reply::Stream { status, headers, stream }) => {
                    return assemble(status, headers, Body::stream(stream));
                }
                Ok(Reply::Forward(forward)) => {
                    let body = unread.unwrap_or(Sent::Whole(body));
                    return self.forward(exchange, &forward, body, upgrade).await;
                }
                Ok(Reply::Upgrade { status, headers, serve }) => {
                    let Some(upgrade) = upgrade else {
                        return status::refusal(&Status::bad_request("Upgrade request required"));
                    };
                    exchange.connection.switched();
                    let until_the_end = (exchange.ending(), exchange.lasting.lock().take());
                    self.handle().spawn(async move {
                        let _until_the_end = until_the_end;
                        serve(upgrade).await;
                    });
                    return switch_protocols(status, headers);
                }
                Ok(Reply::Resume { user, authorized }) => {
                    if let Some(refused) = exchange.begin_audit(Some(&user)) {
                        return status::refusal_to(exchange, &refused);
                    }
                    if let Some(trail) = exchange.trail() {
                        trail.goes_on_as(&user);
                    }
                    if exchange.seat().is_none()
                        && let Some(refused) = self.take_seat(exchange, &user).await
                    {
                        return refused;
                    }
                    if authorized {
                        self.audit_decision(exchange, &user, None);
                    }
                    decisions = Decisions {
                        user: Some(user),
                        authenticated: Some(true),
                        authorized: authorized.then_some(true),
                        resumed: true,
                        known_at: None,
                    };
                    if !authorized && let Some(refused) = self.authorize(exchange, &mut decisions) {
                        return self.render(exchange, status::forbidden_to(exchange, &refused));
                    }
                    if decisions.authorized == Some(true) && !may_switch(exchange, upgrade.as_ref()) {
                        if self.asks_metrics(exchange) {
                            return self.clone().metrics_answer().await;
                        }
                        if let Some(response) = self.serve_here(exchange, decisions.user.as_ref()) {
                            return response;
                        }
                    }
                }
            }
        }
    }
}

/// The refusal of a time to answer in that is no duration. (What would take long is bounded by other means.)
fn misjudged_time(exchange: &Exchange) -> Option<Status> {
    let info = &exchange.info;
    let lasts = info.verb() == "watch" || LONG_RUNNING.contains(&info.subresource());
    if lasts || !exchange.query.contains("timeout=") {
        return None;
    }
    let given = Query::new(&exchange.query).first("timeout").filter(|given| !given.is_empty())?;
    let why = parse_duration(&given).err()?;
    Some(Status::bad_request(format!("invalid timeout specified in the request URL - {why}")))
}

fn refuse(refused: &Status) -> Answer {
    Answer::Ready(Some(status::refusal(refused)))
}

/// Whoever offers another protocol where nobody speaks one, as curl does, is answered in this one.
fn may_switch(exchange: &Exchange, upgrade: Option<&OnUpgrade>) -> bool {
    upgrade.is_some() && exchange.info.is_resource()
}

/// Over HTTP/2 Go's server does not look at it.
fn expects_otherwise(version: Version, headers: &Headers) -> bool {
    let is_known = |value: &HeaderValue| {
        let mut tokens = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        value.is_empty() || tokens.any(|token| token.eq_ignore_ascii_case(b"100-continue"))
    };
    version < Version::HTTP_2 && headers.first(Name::Expect).is_some_and(|value| !is_known(value))
}

fn assemble(status: u16, headers: handoff::Headers, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        response.headers_mut().append(name, value);
    }
    response
}

pub(crate) fn switch_protocols(status: u16, headers: handoff::Headers) -> Response<Body> {
    let mut response = assemble(status, headers, Body::empty());
    response.headers_mut().entry(CONNECTION).or_insert(HeaderValue::from_static("Upgrade"));
    response
}
