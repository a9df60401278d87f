//! The whole, as its user sees it.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use kubecore_core::balance::{DestinationSpec, ServiceKey, ServiceOptions, VirtualService};
use kubecore_core::clock::Clock;
use kubecore_front::lifespan::Phase;
use kubecore_tls::TlsError;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::access_log::AccessLog;
use crate::backend::{Backend, Protocol, Terms};
use crate::certificates::{self, Certificate, Certificates};
use crate::options::Options;
use crate::pool::Pool;
use crate::server;
use crate::shared::{Counters, Shared, Target};
use crate::table::{HostRoutes, PathKind, PathRoute};
use crate::transport::{Tls, TlsSpec};

/// A path of a host, the name of the backend it leads to, and the Ingress (`namespace/name`) that says so.
#[derive(Clone, Debug)]
pub struct RouteSpec {
    pub kind: PathKind,
    pub path: String,
    pub backend: String,
    pub ingress: String,
}

/// All that is said about a host; `default` is (backend, Ingress).
#[derive(Clone, Debug, Default)]
pub struct HostSpec {
    pub routes: Vec<RouteSpec>,
    pub default: Option<(String, String)>,
}

#[derive(Clone, Debug)]
pub struct BackendSpec {
    pub protocol: Protocol,
    pub tls: Option<TlsSpec>,
    /// Where they are other than those of all.
    pub connect_timeout: Option<Duration>,
    pub read_timeout: Option<Duration>,
    pub options: ServiceOptions,
    pub destinations: Vec<DestinationSpec>,
}

/// Counts since the beginning.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// (status, answers)
    pub statuses: Vec<(u16, u64)>,
    pub retries: u64,
    /// Of answers' bodies.
    pub bytes: u64,
    pub accepted: u64,
    pub open: usize,
    pub upgraded: u64,
    pub idle_connections: usize,
    pub hosts: usize,
    pub log_lines_dropped: u64,
    /// (name, answers by the hundreds of their status, milliseconds of all together)
    pub backends: Vec<(String, [u64; 6], u64)>,
}

pub struct Ingress {
    shared: Arc<Shared>,
    certificates: Arc<Certificates>,
    /// Also makes changes of the table one at a time.
    backends: Mutex<Backends>,
}

impl Ingress {
    pub fn new(runtime: Handle, clock: Clock, options: Options) -> Self {
        let pool = Arc::new(Pool::new(options.pool_size, options.pool_timeout));
        let shared = Arc::new(Shared {
            options,
            clock,
            runtime,
            table: ArcSwap::default(),
            pool,
            counters: Counters::default(),
            log: ArcSwapOption::empty(),
            phase: watch::Sender::new(Phase::Serving),
        });
        Self { shared, certificates: Arc::default(), backends: Mutex::default() }
    }

    /// Serves HTTP, and HTTP/2 to clients that begin with it. `ahead`: no link needs to have the address yet. Errors
    /// as bind(2) has them.
    pub fn listen_http(&self, address: SocketAddr, ahead: bool) -> io::Result<SocketAddr> {
        server::listen(&self.shared, address, ahead, None)
    }

    /// Serves HTTPS with the certificates there are when a client comes.
    pub fn listen_https(&self, address: SocketAddr, ahead: bool) -> io::Result<SocketAddr> {
        let config = certificates::server_config(self.certificates.clone()).map_err(io::Error::other)?;
        server::listen(&self.shared, address, ahead, Some(TlsAcceptor::from(Arc::new(config))))
    }

    /// `hosts` in lower case, with wildcards; `default` for all other names.
    pub fn set_certificates(&self, hosts: Vec<(String, Certificate)>, default: Option<Certificate>) {
        self.certificates.replace(hosts, default);
    }

    /// Makes a backend, or changes it; requests under way are not touched. Errors are those of `Tls::new`.
    pub fn set_backend(&self, name: &str, spec: &BackendSpec) -> Result<(), TlsError> {
        let options = &self.shared.options;
        let backend = backend(&mut self.backends.lock(), name, options);
        // While nothing else is asked for in TLS, connections and sessions there are stay of use.
        let same = backend.terms().tls.clone().filter(|tls| Some(&tls.spec) == spec.tls.as_ref());
        let tls = match (same, &spec.tls) {
            (Some(same), _) => Some(same),
            (None, Some(spec)) => Some(Arc::new(Tls::new(spec.clone())?)),
            (None, None) => None,
        };
        let terms = Terms {
            protocol: spec.protocol,
            tls,
            connect_timeout: spec.connect_timeout.unwrap_or(options.connect_timeout),
            read_timeout: spec.read_timeout.unwrap_or(options.response_timeout),
        };
        let before = backend.service.destinations();
        backend.configure(terms, spec.options, &spec.destinations);
        let gone: Vec<_> = before.iter().filter(|one| one.removed()).map(|one| one.address()).collect();
        if !gone.is_empty() {
            self.shared.pool.forget_all(|address| gone.contains(address));
        }
        Ok(())
    }

    /// False: there was none. Routes that still lead there find no destination.
    pub fn remove_backend(&self, name: &str) -> bool {
        let Some(backend) = self.backends.lock().remove(name) else { return false };
        let gone: Vec<_> = backend.service.destinations().iter().map(|one| one.address()).collect();
        backend.service.set_destinations(&[]);
        self.shared.pool.forget_all(|address| gone.contains(address));
        true
    }

    /// Replaces all that is said about some hosts (None: nothing any more), in one step. Backends are made as needed.
    pub fn set_hosts(&self, changes: Vec<(String, Option<HostSpec>)>) {
        let mut backends = self.backends.lock();
        let mut table = (**self.shared.table.load()).clone();
        for (host, spec) in changes {
            let routes = spec.map(|spec| {
                let default = spec
                    .default
                    .map(|(name, ingress)| target(&mut backends, &name, &ingress, &self.shared.options));
                let routes = spec.routes.into_iter().map(|route| PathRoute {
                    kind: route.kind,
                    target: target(&mut backends, &route.backend, &route.ingress, &self.shared.options),
                    path: route.path,
                });
                HostRoutes::new(routes.collect::<Vec<_>>(), default)
            });
            table.set_host(&host, routes);
        }
        self.shared.table.store(Arc::new(table));
    }

    /// Where requests go that nothing else is for: (backend, Ingress).
    pub fn set_fallback(&self, fallback: Option<(&str, &str)>) {
        let mut backends = self.backends.lock();
        let mut table = (**self.shared.table.load()).clone();
        table.set_fallback(
            fallback.map(|(name, ingress)| target(&mut backends, name, ingress, &self.shared.options)),
        );
        self.shared.table.store(Arc::new(table));
    }

    /// The backend a request would go to.
    pub fn route(&self, authority: &str, path: &str) -> Option<String> {
        let host = crate::table::host_name(authority);
        self.shared.table.load().find(&host, path).map(|target| target.backend.name.to_string())
    }

    /// From now on; None: no log any more.
    pub fn log_to(&self, path: Option<&Path>) -> io::Result<()> {
        let log = path.map(AccessLog::open).transpose()?;
        self.shared.log.store(log.map(Arc::new));
        Ok(())
    }

    pub fn statistics(&self) -> Statistics {
        let counters = &self.shared.counters;
        let mut backends: Vec<_> = self.backends.lock().values().cloned().collect();
        backends.sort_by(|one, other| one.name.cmp(&other.name));
        let log = self.shared.log.load();
        Statistics {
            statuses: counters.statuses(),
            retries: counters.retries.load(Relaxed),
            bytes: counters.bytes.load(Relaxed),
            accepted: counters.accepted.load(Relaxed),
            open: counters.open.load(Relaxed),
            upgraded: counters.upgraded.load(Relaxed),
            idle_connections: self.shared.pool.idle(),
            hosts: self.shared.table.load().len(),
            log_lines_dropped: log.as_ref().map_or(0, |log| log.dropped()),
            backends: backends
                .iter()
                .map(|backend| {
                    let (answers, milliseconds) = backend.counts();
                    (backend.name.to_string(), answers, milliseconds)
                })
                .collect(),
        }
    }

    /// Stops listening at once; requests may finish within `grace`.
    pub fn shutdown(&self, grace: Duration) -> impl Future<Output = ()> + Send + use<> {
        let shared = self.shared.clone();
        shared.phase.send_replace(Phase::Draining);
        async move { server::shutdown(&shared, grace).await }
    }
}

impl Drop for Ingress {
    fn drop(&mut self) {
        self.shared.phase.send_replace(Phase::Closed);
    }
}

type Backends = FxHashMap<Box<str>, Arc<Backend>>;

fn backend(backends: &mut Backends, name: &str, options: &Options) -> Arc<Backend> {
    if let Some(known) = backends.get(name) {
        return Arc::clone(known);
    }
    // Not in a balancer's table: no packet is matched against it.
    let service = VirtualService::new(ServiceKey::Mark(0), ServiceOptions::default());
    let terms = Terms {
        protocol: Protocol::Http1,
        tls: None,
        connect_timeout: options.connect_timeout,
        read_timeout: options.response_timeout,
    };
    let made = Arc::new(Backend::new(name, service, terms));
    backends.insert(name.into(), Arc::clone(&made));
    made
}

fn target(backends: &mut Backends, name: &str, ingress: &str, options: &Options) -> Arc<Target> {
    Arc::new(Target { backend: backend(backends, name, options), ingress: ingress.into() })
}
