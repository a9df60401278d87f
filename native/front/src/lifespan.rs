//! How long a client's connection lives: until the client goes, nothing has been asked for too long, or the server ends.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::bounds::Http2ServerConnExec;
use hyper::server::conn::{http1, http2};
use hyper::service::HttpService;
use hyper_util::rt::TokioExecutor;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::seldom::Seldom;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How far the server's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Serving,
    /// No new connections and watches; what is under way may finish.
    Draining,
    /// Everything is dropped.
    Closed,
}

/// How long nothing may be asked.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From opening the connection to the end of its first request's head.
    pub first: Duration,
    /// From the end of an answer to the end of the next request's head.
    pub next: Duration,
}

/// Whether anything is asked on a connection, and since when nothing is.
pub struct Activity {
    opened: Instant,
    /// Requests under way, their bodies included.
    busy: AtomicU32,
    /// When the last one ended, in milliseconds after `opened`; 0 before that.
    last_end: AtomicU64,
    parting: Notify,
}

impl Default for Activity {
    fn default() -> Self {
        Self {
            opened: Instant::now(),
            busy: AtomicU32::new(0),
            last_end: AtomicU64::new(0),
            parting: Notify::new(),
        }
    }
}

impl Activity {
    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > 0
    }

    /// Nothing more is asked on the connection: it ends with what is under way.
    pub fn part(&self) {
        self.parting.notify_one();
    }

    /// How long nothing has been asked, and how long that may last.
    fn idle(&self, patience: Patience) -> Option<(Duration, Duration)> {
        if self.is_busy() {
            return None;
        }
        let last_end = self.last_end.load(Ordering::Relaxed);
        let allowed = if last_end == 0 { patience.first } else { patience.next };
        let idle = self.opened.elapsed().saturating_sub(Duration::from_millis(last_end));
        Some((idle, allowed))
    }

    /// Completes when the connection has been idle (or busy with half a request head) for too long.
    pub(crate) async fn tired(&self, patience: Patience) {
        loop {
            let wait = match self.idle(patience) {
                Some((idle, allowed)) if idle >= allowed => return,
                Some((idle, allowed)) => allowed - idle,
                None => patience.first.min(patience.next),
            };
            tokio::time::sleep(wait.max(Duration::from_millis(10))).await;
        }
    }
}

/// A request under way on the connection `C`, counted while this lives.
pub struct Busy<C: AsRef<Activity>>(Arc<C>);

impl<C: AsRef<Activity>> Busy<C> {
    pub fn begin(connection: &Arc<C>) -> Self {
        (**connection).as_ref().busy.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(connection))
    }

    pub fn connection(&self) -> &C {
        &self.0
    }
}

impl<C: AsRef<Activity>> Drop for Busy<C> {
    fn drop(&mut self) {
        let activity = (*self.0).as_ref();
        let since = activity.opened.elapsed().as_millis().max(1);
        activity.last_end.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
        activity.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What both protocol versions can do.
pub trait Served: Future<Output = Result<(), hyper::Error>> {
    /// Ends when what is under way has ended.
    fn wind_down(self: Pin<&mut Self>);
}

impl<I, S, B> Served for http1::UpgradeableConnection<I, S>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    fn wind_down(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S, B> Served for http2::Connection<I, S, TokioExecutor>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: Body + 'static,
    B::Error: Into<BoxError>,
    TokioExecutor: Http2ServerConnExec<S::Future, B>,
{
    fn wind_down(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Serves requests until the client goes, the connection tires or parts, or the server ends. True where the connection
/// has ended by itself.
pub async fn live(
    served: impl Served,
    activity: &Activity,
    patience: Patience,
    phase: &watch::Sender<Phase>,
) -> bool {
    let mut served = pin!(served);
    let mut phase = phase.subscribe();
    let mut tired = pin!(activity.tired(patience));
    let mut winding_down = false;
    loop {
        // Looked at when one of them has come, and not for each request.
        let mut end = pin!(end(activity, tired.as_mut(), &mut phase, winding_down));
        let end = tokio::select! {
            biased;
            _ = served.as_mut() => return true,
            end = Seldom::new(end.as_mut()) => end,
        };
        match end {
            End::Now => return false,
            End::Parting => {}
            End::Draining => winding_down = true,
        }
        served.as_mut().wind_down();
    }
}

/// Why a connection does not go on as it has.
enum End {
    Now,
    Parting,
    Draining,
}

async fn end(
    activity: &Activity,
    tired: Pin<&mut impl Future<Output = ()>>,
    phase: &mut watch::Receiver<Phase>,
    winding_down: bool,
) -> End {
    let is_next =
        |phase: &Phase| if winding_down { *phase == Phase::Closed } else { *phase != Phase::Serving };
    tokio::select! {
        biased;
        () = tired => End::Now,
        () = activity.parting.notified() => End::Parting,
        changed = phase.wait_for(is_next) => {
            if changed.is_err() || winding_down { End::Now } else { End::Draining }
        }
    }
}
