//! Selectors: parsing one, and matching it against a pod's labels.

use criterion::{Criterion, criterion_group, criterion_main};
use kubecore_core::selector::{FieldSelector, LabelSelector};
use std::hint::black_box;

fn selectors(criterion: &mut Criterion) {
    let labels = [
        ("app.kubernetes.io/name", "frontend"),
        ("app.kubernetes.io/part-of", "shop"),
        ("pod-template-hash", "6d4cf56db6"),
        ("tier", "web"),
        ("zone", "a"),
    ];
    for (name, text) in [
        ("equality", "tier=web"),
        ("set", "tier in (web,api,batch),zone notin (c,d),!legacy"),
        ("five requirements", "tier=web,zone!=b,app.kubernetes.io/name=frontend,pod-template-hash,!legacy"),
    ] {
        let selector = LabelSelector::parse(text).expect("valid");
        criterion.bench_function(&format!("match/{name}"), |bench| {
            bench.iter(|| black_box(&selector).matches(black_box(&labels)));
        });
        criterion.bench_function(&format!("parse/{name}"), |bench| {
            bench.iter(|| LabelSelector::parse(black_box(text)));
        });
    }
    criterion.bench_function("parse/field", |bench| {
        bench.iter(|| FieldSelector::parse(black_box("spec.nodeName=node-17,status.phase!=Failed")));
    });
}

criterion_group!(benches, selectors);
criterion_main!(benches);
