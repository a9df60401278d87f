//! What is counted and logged of one request, when its answer is over.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use http::header::{HOST, HeaderValue, REFERER, USER_AGENT};
use http::{Request, Version};
use serde_json::{Map, Value};

use crate::client::Client;
use crate::shared::{Shared, Target};

/// Counts the answer when it is dropped, and writes its line where there is an access log.
pub struct Record {
    shared: Arc<Shared>,
    began: Instant,
    pub status: u16,
    /// Of the answer's body.
    pub bytes: u64,
    pub target: Option<Arc<Target>>,
    /// Only with an access log.
    line: Option<Box<Line>>,
}

/// What the access log tells of a request's head.
pub struct Asked<'r> {
    pub version: Version,
    pub method: &'r str,
    pub host: Cow<'r, str>,
    pub path: &'r str,
    pub user_agent: Option<&'r [u8]>,
    pub referer: Option<&'r [u8]>,
}

impl<'r> Asked<'r> {
    pub fn of<B>(request: &'r Request<B>) -> Self {
        let header = |name| request.headers().get(name).map(HeaderValue::as_bytes);
        let host = match request.uri().authority() {
            Some(authority) => authority.as_str().into(),
            None => String::from_utf8_lossy(header(HOST).unwrap_or_default()),
        };
        Self {
            version: request.version(),
            method: request.method().as_str(),
            host,
            path: request.uri().path_and_query().map_or("", |path| path.as_str()),
            user_agent: header(USER_AGENT),
            referer: header(REFERER),
        }
    }
}

struct Line {
    fields: Map<String, Value>,
    destination: Option<SocketAddr>,
    attempts: usize,
    error: Option<String>,
}

impl Record {
    /// `asked` is needed only with an access log.
    pub fn new<'r>(
        shared: &Arc<Shared>,
        client: &Client,
        began: Instant,
        asked: impl FnOnce() -> Asked<'r>,
    ) -> Self {
        let line = shared.log.load().is_some().then(|| Box::new(line(shared, client, &asked())));
        Self { shared: shared.clone(), began, status: 0, bytes: 0, target: None, line }
    }

    /// A destination has been chosen.
    pub fn sent_to(&mut self, destination: SocketAddr) {
        if let Some(line) = &mut self.line {
            line.destination = Some(destination);
            line.attempts += 1;
        }
    }

    /// Why there is no answer, or only the beginning of one.
    pub fn failed(&mut self, why: impl Into<String>) {
        if let Some(line) = &mut self.line {
            line.error = Some(why.into());
        }
    }
}

fn line(shared: &Shared, client: &Client, asked: &Asked<'_>) -> Line {
    let mut fields = Map::with_capacity(20);
    fields.insert("time".into(), crate::access_log::time(shared.clock.unix()).into());
    fields.insert("client".into(), client.remote.to_string().into());
    fields.insert("protocol".into(), format!("{:?}", asked.version).into());
    fields.insert("tls".into(), client.secure.into());
    fields.insert("method".into(), asked.method.into());
    fields.insert("host".into(), asked.host.as_ref().into());
    fields.insert("path".into(), asked.path.into());
    for (name, value) in [("user_agent", asked.user_agent), ("referer", asked.referer)] {
        if let Some(value) = value {
            fields.insert(name.into(), String::from_utf8_lossy(value).into());
        }
    }
    Line { fields, destination: None, attempts: 0, error: None }
}

impl Drop for Record {
    fn drop(&mut self) {
        let elapsed = self.began.elapsed();
        // 499: the client has gone before there was an answer.
        let status = if self.status == 0 { 499 } else { self.status };
        self.shared.counters.answered(status);
        self.shared.counters.bytes.fetch_add(self.bytes, Relaxed);
        if let Some(target) = &self.target {
            target.backend.count(status, u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
        }
        let (Some(mut line), Some(log)) = (self.line.take(), self.shared.log.load_full()) else { return };
        let fields = &mut line.fields;
        fields.insert("status".into(), status.into());
        fields.insert("bytes".into(), self.bytes.into());
        fields.insert("duration_ms".into(), (elapsed.as_micros() as f64 / 1000.0).into());
        if let Some(target) = &self.target {
            fields.insert("ingress".into(), (&*target.ingress).into());
            fields.insert("backend".into(), (&*target.backend.name).into());
        }
        if let Some(destination) = line.destination {
            fields.insert("destination".into(), destination.to_string().into());
            fields.insert("attempts".into(), line.attempts.into());
        }
        if let Some(error) = line.error {
            fields.insert("error".into(), error.into());
        }
        log.write(&line.fields);
    }
}
