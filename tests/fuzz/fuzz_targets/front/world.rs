//! Servers without Python: two objects in the watch cache, who may read which, and a part for the handlers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kubecore_core::authn::UserInfo;
use kubecore_core::clock::Clock;
use kubecore_core::protobuf::Protobuf;
use kubecore_core::rbac::{Change, PolicyKind, PolicyStore};
use kubecore_core::watch_cache::{Bounds, Json, ResourceInfo, WatchCache};
use kubecore_front::audit::{Events, Sink};
use kubecore_front::cached::CacheLookup;
use kubecore_front::exchange::Exchange;
use kubecore_front::handoff::{Pending, Reply};
use kubecore_front::routes::Route;
use kubecore_front::server::{Limits, Server};
use kubecore_front::stream::StreamState;
use kubecore_front::upgrade::switched;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// The one token that the front knows where it knows any, and one that the handlers know.
pub const TOKEN: &str = "reader";
pub const HANDLERS_TOKEN: &str = "jane";
/// What stands in the objects of the namespaces `open`, which both may read, and `closed`, which nobody may.
pub const OPEN: &[u8] = b"mark-open-to-some";
pub const CLOSED: &[u8] = b"mark-closed-to-all";

/// Small, so that few bytes get beyond them.
const MOST_BODY: usize = 512;
const MOST_HEAD: usize = 1024;

const ROLE: &[u8] =
    br#"{"rules":[{"apiGroups":[""],"resources":["configmaps"],"verbs":["get","list","watch"]}]}"#;
const BINDING: &[u8] = br#"{"subjects":[{"kind":"User","name":"reader"},{"kind":"User","name":"jane"}],
    "roleRef":{"kind":"Role","name":"reads"}}"#;
const PUBLIC: &[u8] =
    br#"{"rules":[{"nonResourceURLs":["/healthz","/livez","/readyz","/version"],"verbs":["get"]}]}"#;
const EVERYBODY: &[u8] = br#"{"subjects":[{"kind":"Group","name":"system:authenticated"},
    {"kind":"Group","name":"system:unauthenticated"}],"roleRef":{"kind":"ClusterRole","name":"public"}}"#;

/// Where a connection arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    Insecure,
    /// A server that knows no token at all.
    OfStrangers,
    /// One that knows `TOKEN`, asks the handlers about others, and audits.
    Secure,
}

/// The audit's log: each line is JSON.
struct Log;

impl Sink for Log {
    fn take(&self, events: &Events) -> bool {
        for line in events.iter() {
            serde_json::from_slice::<serde_json::Value>(line).expect("an event is JSON");
        }
        true
    }

    fn lost(&self) -> u64 {
        0
    }

    fn name(&self) -> &'static str {
        "log"
    }
}

pub fn server(port: Port, handle: Handle) -> Arc<Server> {
    let cache = WatchCache::new(Bounds::default(), Clock::default());
    let limits = Limits { max_body_bytes: MOST_BODY, max_header_bytes: MOST_HEAD, ..Limits::default() };
    let lookup = Arc::new(CacheLookup(cache.clone()));
    let server = Server::new(limits, Clock::default(), lookup, policy(), handle).expect("a server");
    server.routes.put(route(&cache));
    server.health.set_ready(true);
    if port == Port::Secure {
        server.authenticator.keep_token(TOKEN, UserInfo::new(TOKEN, &[]));
        server.authenticator.set_delegate(true);
        let policy = serde_json::from_str(r#"{"rules":[{"level":"RequestResponse"}]}"#).expect("a policy");
        server.audit.configure(policy, vec![Arc::new(Log)], false, Clock::default());
    }
    server
}

fn policy() -> Arc<PolicyStore> {
    let policy = Arc::new(PolicyStore::new());
    let put = |kind, namespace, name, object| Change { kind, namespace, name, object: Some(object) };
    policy.apply([
        put(PolicyKind::Role, "open", "reads", ROLE),
        put(PolicyKind::RoleBinding, "open", "reads", BINDING),
        put(PolicyKind::ClusterRole, "", "public", PUBLIC),
        put(PolicyKind::ClusterRoleBinding, "", "public", EVERYBODY),
    ]);
    policy
}

fn route(cache: &WatchCache) -> Route {
    let id = cache.register(ResourceInfo {
        key: "configmaps".into(),
        group: String::new(),
        plural: "configmaps".into(),
        kind: "ConfigMap".into(),
        list_kind: String::new(),
        custom: false,
        storage_version: "v1".into(),
        namespaced: true,
        versions: vec!["v1".into()],
        selectable_fields: Vec::new(),
        empty: Vec::new(),
    });
    let object = |revision: u64, namespace: &str, mark: &[u8]| {
        let mark = str::from_utf8(mark).expect("text");
        let json = format!(
            r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"a","namespace":"{namespace}",
            "uid":"{mark}","resourceVersion":"{revision}","labels":{{"l":"{namespace}"}}}},"data":{{"k":"v"}}}}"#
        );
        (format!("{namespace}/a").into(), revision, Bytes::from(json))
    };
    cache.load(id, vec![object(2, "closed", CLOSED), object(3, "open", OPEN)]).expect("objects");
    cache.progress(3);
    let cache = cache.resource(id).expect("a resource");
    let protobuf = Protobuf::version(cache.info(), "v1").expect("a kind with protobuf");
    Route {
        group: String::new(),
        version: "v1".into(),
        plural: "configmaps".into(),
        cache,
        json: Arc::new(Json::stored()),
        protobuf: Some(Arc::new(protobuf)),
        namespaced: true,
        gets: true,
        lists: true,
        watches: true,
        subresources: vec!["log".into()],
        warning: None,
    }
}

/// What handlers have been given.
pub struct Given {
    pub method: String,
    pub body: Bytes,
}

/// Plays the handlers of the API, as far as the front needs them.
pub fn handle(server: &Server, port: Port, pending: Box<Pending>) -> Option<Given> {
    let (exchange, decisions) = (&pending.exchange, &pending.decisions);
    let given = Given { method: exchange.method.as_str().to_owned(), body: pending.body.clone() };
    let is_new = !decisions.resumed;
    let reply = match (&decisions.user, decisions.authorized) {
        (None, _) => {
            assert_eq!((port, decisions.authenticated), (Port::Secure, None), "only there somebody is asked");
            let token = exchange.header("authorization").unwrap_or_default().split(' ').nth(1);
            let user = || Arc::new(UserInfo::new(HANDLERS_TOKEN, &[]).with_authenticated_group());
            match token == Some(HANDLERS_TOKEN) {
                true => Reply::Resume { user: user(), authorized: false },
                false => full(401),
            }
        }
        (Some(_), None) => {
            assert!(exchange.impersonates(), "nothing else is left to handlers");
            full(403)
        }
        (Some(user), Some(authorized)) => {
            assert!(authorized, "what is refused ends before");
            assert!(port == Port::Insecure || may(user, exchange), "{} may not", user.username);
            answer(server, exchange)
        }
    };
    let _ = pending.reply.send(reply);
    is_new.then_some(given)
}

/// As the policy has it.
fn may(user: &UserInfo, exchange: &Exchange) -> bool {
    let info = &exchange.info;
    if !info.is_resource() {
        return ["/healthz", "/livez", "/readyz", "/version"].contains(&info.path());
    }
    let is_known = user.username == TOKEN || user.username == HANDLERS_TOKEN;
    let reads = matches!(info.verb(), "get" | "list" | "watch");
    is_known && reads && (info.namespace(), info.resource(), info.subresource()) == ("open", "configmaps", "")
}

fn answer(server: &Server, exchange: &Exchange) -> Reply {
    let headers = Vec::new();
    if exchange.asks_to_switch() {
        let serve = Box::new(|upgrade| Box::pin(async { echo(switched(upgrade).await).await }) as _);
        return Reply::Upgrade { status: 101, headers, serve };
    }
    if exchange.info.subresource() == "log" {
        let stream = StreamState::new(server.handoff.clone());
        for piece in ["one\n", "two\n"] {
            stream.write(Bytes::from_static(piece.as_bytes()));
        }
        stream.close();
        return Reply::Stream { status: 200, headers, stream };
    }
    full(404)
}

fn full(status: u16) -> Reply {
    Reply::Full { status, headers: Vec::new(), body: Bytes::from_static(b"of a handler") }
}

/// The first that comes, and no more.
async fn echo(connection: Option<impl AsyncRead + AsyncWrite + Unpin>) {
    let Some(mut connection) = connection else { return };
    let mut piece = [0; 64];
    if let Ok(Ok(count)) = timeout(Duration::from_secs(1), connection.read(&mut piece)).await {
        let _ = connection.write_all(&piece[..count]).await;
    }
    let _ = connection.shutdown().await;
}
