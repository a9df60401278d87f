//! What is in the file, and what is told, where values are sealed.

use std::path::Path;
use std::sync::Arc;

use kubecore_store::encryption::{Encryption, Kind as Provider, ProviderSpec};
use kubecore_store::{Answer, Kind, OpenError, Read, Refusal, Store, Work};

use crate::asking::{Asked, LIMITS, TestHost, other, write};

const KEY: &str = "/registry/core/secrets/default/a";
const SECRET: &str = "the-plain-secret";

fn provider(kind: Provider, name: &str) -> ProviderSpec {
    let keys = if kind == Provider::Identity { Vec::new() } else { vec![(name.to_owned(), vec![7; 32])] };
    (kind, keys)
}

fn encryption(providers: &[ProviderSpec]) -> Encryption {
    Encryption::new(vec![("/registry/core/secrets/".to_owned(), providers.to_vec())]).unwrap()
}

fn contains(directory: &Path, text: &str) -> bool {
    let file = std::fs::read(directory.join("data.mdb")).unwrap();
    file.windows(text.len()).any(|part| part == text.as_bytes())
}

fn value(answer: Answer) -> String {
    let Answer::Stored { value, .. } = answer else { panic!("{answer:?}") };
    String::from_utf8(value.to_vec()).unwrap()
}

fn get(asked: &Asked) -> Answer {
    asked.ask(other(Work::Read(Read::Get { key: KEY.to_owned() })))
}

#[test]
fn the_file_shows_no_sealed_value_and_everybody_else_sees_it() {
    let directory = tempfile::tempdir().unwrap();
    let asked =
        Asked::open_sealed(directory.path(), LIMITS, encryption(&[provider(Provider::AesGcm, "one")]));
    let whole = format!("<1>{SECRET}");
    assert_eq!(value(asked.ask(write(Kind::Create, KEY, SECRET, 0))), whole);
    assert_eq!(value(get(&asked)), whole);
    let Answer::Page(page) = asked.list("/registry/core/secrets/", 0) else { panic!() };
    assert_eq!(&*page.entries[0].value, whole.as_bytes());
    assert_eq!(&*asked.host.0.lock().published[0].1[0].value, whole.as_bytes());
    asked.ask(write(Kind::Update, KEY, "another", 1));
    let Answer::Page(page) = asked.list("/registry/core/secrets/", 1) else { panic!() };
    assert_eq!(&*page.entries[0].value, whole.as_bytes());
    asked.ask(write(Kind::Delete, KEY, SECRET, 2));
    let Answer::Events(events) = asked.ask(other(Work::Read(Read::Events { since: 0, limit: 0 }))) else {
        panic!()
    };
    assert_eq!(events.iter().filter(|event| event.value.ends_with(SECRET.as_bytes())).count(), 2);
    asked.ask(write(Kind::Create, "/registry/core/pods/default/a", "for all to see", 0));
    asked.close();
    assert!(!contains(directory.path(), SECRET));
    assert!(contains(directory.path(), "for all to see"));
}

#[test]
fn what_is_there_is_sealed_with_the_new_key_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let asked = Asked::open(directory.path(), LIMITS);
    for number in 0..1200 {
        asked.ask(write(Kind::Create, &format!("{KEY}{number:04}"), SECRET, 0));
    }
    let identity = provider(Provider::Identity, "");
    let first = encryption(&[provider(Provider::Secretbox, "one"), identity.clone()]);
    assert_eq!(asked.ask(other(Work::Encrypt(Arc::new(first)))), Answer::Nothing);
    let second = encryption(&[provider(Provider::AesCbc, "two"), provider(Provider::Secretbox, "one")]);
    assert_eq!(asked.ask(other(Work::Encrypt(Arc::new(second)))), Answer::Nothing);
    asked.close();
    // The first key is not needed any more.
    let asked =
        Asked::open_sealed(directory.path(), LIMITS, encryption(&[provider(Provider::AesCbc, "two")]));
    let Answer::Page(page) = asked.list("/registry/core/secrets/", 0) else { panic!() };
    assert_eq!(page.entries.len(), 1200);
    assert!(page.entries.iter().all(|entry| entry.value.ends_with(SECRET.as_bytes())));
    let Answer::Events(events) = asked.ask(other(Work::Read(Read::Events { since: 0, limit: 0 }))) else {
        panic!()
    };
    assert!(events.iter().all(|event| event.value.ends_with(SECRET.as_bytes())));
    let lost = encryption(&[provider(Provider::Secretbox, "three")]);
    assert!(matches!(asked.ask(other(Work::Encrypt(Arc::new(lost)))), Answer::Refused(Refusal::Failed(_))));
    assert!(matches!(asked.list("/registry/core/secrets/", 0), Answer::Page(_)));
    let back = encryption(&[identity, provider(Provider::AesCbc, "two")]);
    assert_eq!(asked.ask(other(Work::Encrypt(Arc::new(back)))), Answer::Nothing);
    asked.close();
    let asked = Asked::open(directory.path(), LIMITS);
    assert!(matches!(asked.list("/registry/core/secrets/", 0), Answer::Page(_)));
    asked.close();
}

#[test]
fn without_the_key_there_is_nothing_to_read() {
    let directory = tempfile::tempdir().unwrap();
    let asked =
        Asked::open_sealed(directory.path(), LIMITS, encryption(&[provider(Provider::AesGcm, "one")]));
    asked.ask(write(Kind::Create, KEY, SECRET, 0));
    asked.close();
    let others = encryption(&[provider(Provider::AesGcm, "two")]);
    let opened = Store::open(directory.path(), LIMITS, others, TestHost::default(), true);
    let Err(OpenError::Sealed(why)) = opened.map(|_| ()) else { panic!() };
    assert_eq!(why, format!("{KEY}: unable to decrypt: no key of its name is known"));
    let asked = Asked::open(directory.path(), LIMITS);
    let Answer::Refused(Refusal::Failed(why)) = get(&asked) else { panic!() };
    assert!(why.ends_with("unable to decrypt: no key of its name is known"), "{why}");
    asked.close();
}
