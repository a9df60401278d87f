//! `kubecore._native`: bindings only. Each file binds one concept of the Rust crates; this one registers them.

use pyo3::prelude::*;

mod admission;
mod allocator;
mod answering;
mod audit;
mod balance;
mod bell;
mod cache;
mod clock;
mod custom;
mod dataplane;
mod deferred;
mod dns;
mod error;
mod feed;
mod flow;
mod fresh;
mod front;
mod gil;
mod hashing;
mod headers;
mod identities;
mod ingress;
mod judged;
mod launch;
mod outgoing;
mod pending;
mod placement;
mod protobuf;
mod rbac;
mod request;
mod route;
mod schema;
mod selector;
mod serving;
mod sockets;
mod store;
mod streaming;
mod subscriptions;
mod timing;
mod tracking;
mod tunnel;
mod way_out;

#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    admission::register(module)?;
    answering::register(module)?;
    audit::register(module)?;
    flow::register(module)?;
    balance::register(module)?;
    cache::register(module)?;
    clock::register(module)?;
    custom::register(module)?;
    dataplane::register(module)?;
    deferred::register(module)?;
    dns::register(module)?;
    error::register(module)?;
    feed::register(module)?;
    fresh::register(module)?;
    front::register(module)?;
    hashing::register(module)?;
    identities::register(module)?;
    ingress::register(module)?;
    judged::register(module)?;
    launch::register(module)?;
    outgoing::register(module)?;
    pending::register(module)?;
    placement::register(module)?;
    protobuf::register(module)?;
    rbac::register(module)?;
    request::register(module)?;
    schema::register(module)?;
    selector::register(module)?;
    serving::register(module)?;
    sockets::register(module)?;
    store::register(module)?;
    streaming::register(module)?;
    timing::register(module)?;
    tracking::register(module)?;
    tunnel::register(module)?;
    way_out::register(module)?;
    // Benches refuse to measure anything else.
    module.add("OPTIMISED", !cfg!(debug_assertions))?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))
}
