//! RBAC: one decision that nobody has kept, among 1,000 roles and 5,000 bindings.

use criterion::{Criterion, criterion_group, criterion_main};
use kubecore_core::authn::UserInfo;
use kubecore_core::rbac::{Attributes, Change, PolicyKind, PolicyStore};
use serde_json::{Value, json};
use std::hint::black_box;

const ROLES: usize = 1_000;
const BINDINGS: usize = 5_000;
/// Each has ten bindings, by turns of two roles.
const ACCOUNTS: usize = 500;

fn put(store: &PolicyStore, kind: PolicyKind, objects: impl Iterator<Item = (String, Value)>) {
    let objects: Vec<_> = objects.map(|(name, object)| (name, object.to_string())).collect();
    store.apply(objects.iter().map(|(name, object)| Change {
        kind,
        namespace: "default",
        name,
        object: Some(object.as_bytes()),
    }));
}

fn policy() -> PolicyStore {
    let store = PolicyStore::new();
    let roles = (0..ROLES).map(|number| {
        let rule = json!({"apiGroups": ["apps"], "resources": [format!("things{number}")], "verbs": ["get", "list"]});
        (format!("role-{number}"), json!({"rules": [rule]}))
    });
    put(&store, PolicyKind::Role, roles);
    let bindings = (0..BINDINGS).map(|number| {
        let account =
            json!({"kind": "ServiceAccount", "namespace": "default", "name": format!("account-{}", number % ACCOUNTS)});
        let role = json!({"kind": "Role", "name": format!("role-{}", number % ROLES)});
        (format!("binding-{number}"), json!({"subjects": [account], "roleRef": role}))
    });
    put(&store, PolicyKind::RoleBinding, bindings);
    store
}

fn decisions(criterion: &mut Criterion) {
    let store = policy();
    let users: Vec<_> = (0..ACCOUNTS)
        .map(|number| {
            let groups = ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"];
            UserInfo::new(format!("system:serviceaccount:default:account-{number}"), &groups)
        })
        .collect();
    // Of the second of an account's roles, and of none of them.
    let resources: Vec<_> =
        (0..ACCOUNTS).map(|number| format!("things{}", number + ROLES - ACCOUNTS)).collect();
    for (name, resources, is_allowed) in
        [("allowed", &resources[..], true), ("no opinion", &["secrets".to_owned()][..], false)]
    {
        let mut turn = 0;
        criterion.bench_function(&format!("decide/{name}"), |bench| {
            bench.iter(|| {
                // Another account each time: what nobody has kept is not in the processor's caches either.
                turn = (turn + 7) % ACCOUNTS;
                let attributes = Attributes {
                    verb: "get",
                    group: "apps",
                    version: "v1",
                    resource: &resources[turn % resources.len()],
                    namespace: "default",
                    name: "one",
                    is_resource: true,
                    ..Attributes::default()
                };
                let decision = store.current().decide(black_box(&users[turn]), black_box(&attributes));
                assert_eq!(decision == kubecore_core::rbac::Decision::Allowed, is_allowed);
                decision
            });
        });
    }
}

criterion_group!(benches, decisions);
criterion_main!(benches);
