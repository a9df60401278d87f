use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};

use super::answer::{Asker, Outcome, answer};
use super::table::{RecordError, RecordSpec, Table};

const RECURSIVE: Asker = Asker { address: None, recursive: true };

fn spec(name: &str, kind: &str, value: &str) -> RecordSpec {
    RecordSpec { name: name.into(), kind: kind.into(), ttl: 30, value: value.into() }
}

fn table() -> Table {
    let mut table = Table::new("cluster.local").unwrap();
    let web = [
        spec("web.default.svc.cluster.local", "A", "10.96.0.7"),
        spec("_http._tcp.web.default.svc.cluster.local", "SRV", "0 100 80 web.default.svc.cluster.local."),
        spec("7.0.96.10.in-addr.arpa", "PTR", "web.default.svc.cluster.local."),
    ];
    table.set("svc/default/web", &web).unwrap();
    let many: Vec<_> = (0..150)
        .map(|host| spec("many.default.svc.cluster.local", "A", &format!("10.244.0.{host}")))
        .collect();
    table.set("svc/default/many", &many).unwrap();
    let alias = [
        spec("near.default.svc.cluster.local", "CNAME", "web.default.svc.cluster.local."),
        spec("far.default.svc.cluster.local", "CNAME", "example.org."),
        spec("loop.default.svc.cluster.local", "CNAME", "loop.default.svc.cluster.local."),
        spec("one.default.svc.cluster.local", "CNAME", "Other.default.svc.cluster.local."),
        spec("other.default.svc.cluster.local", "CNAME", "one.default.svc.cluster.local."),
    ];
    table.set("aliases", &alias).unwrap();
    table
        .set(
            "ns",
            &[spec("default.pod.cluster.local", "PODS", ""), spec("empty.svc.cluster.local", "EMPTY", "")],
        )
        .unwrap();
    table
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut query = Message::new(4711, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    query
}

fn reply(table: &Table, query: &Message) -> Message {
    match answer(table, &query.to_vec().unwrap(), true, Asker::default()) {
        Outcome::Reply(bytes) => Message::from_vec(&bytes).unwrap(),
        Outcome::Drop => panic!("dropped"),
        Outcome::Forward(_) => panic!("forwarded"),
        Outcome::Follow { .. } => panic!("followed"),
        Outcome::Search { .. } => panic!("searched"),
    }
}

fn ask(name: &str, kind: RecordType) -> (ResponseCode, Vec<String>) {
    let reply = reply(&table(), &question(name, kind));
    let mut data: Vec<_> = reply.answers.iter().map(|record| record.data.to_string()).collect();
    data.sort();
    (reply.metadata.response_code, data)
}

#[test]
fn a_name_is_found_in_any_letter_case_and_answered_in_the_case_it_was_asked_in() {
    let answer = reply(&table(), &question("WEB.Default.svc.CLUSTER.local.", RecordType::A));
    assert_eq!(answer.answers[0].data.to_string(), "10.96.0.7");
    assert_eq!(answer.answers[0].name.to_ascii(), "WEB.Default.svc.CLUSTER.local.");
    assert_eq!(answer.metadata.id, 4711);
    assert!(answer.metadata.authoritative && !answer.metadata.recursion_available);
}

#[test]
fn a_name_without_the_type_is_no_data_with_soa() {
    let answer = reply(&table(), &question("web.default.svc.cluster.local.", RecordType::AAAA));
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    assert!(answer.answers.is_empty());
    assert_eq!(answer.authorities[0].record_type(), RecordType::SOA);
}

#[test]
fn names_between_exist_without_records() {
    for name in [
        "default.svc.cluster.local.",
        "svc.cluster.local.",
        "_tcp.web.default.svc.cluster.local.",
        "cluster.local.",
        "empty.svc.cluster.local.",
    ] {
        assert_eq!(ask(name, RecordType::A), (ResponseCode::NoError, vec![]), "{name}");
    }
}

#[test]
fn unknown_names_of_the_domain_do_not_exist() {
    for name in [
        "nothing.default.svc.cluster.local.",
        "x.web.default.svc.cluster.local.",
        "*.default.svc.cluster.local.",
        "other.cluster.local.",
    ] {
        let answer = reply(&table(), &question(name, RecordType::A));
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain, "{name}");
        assert_eq!(answer.authorities[0].record_type(), RecordType::SOA);
    }
}

#[test]
fn before_the_first_records_nothing_is_said_about_the_domain() {
    let mut table = Table::new("cluster.local").unwrap();
    let query = question("web.default.svc.cluster.local.", RecordType::A);
    assert_eq!(reply(&table, &query).metadata.response_code, ResponseCode::ServFail);
    let elsewhere = question("example.org.", RecordType::A).to_vec().unwrap();
    assert!(matches!(answer(&table, &elsewhere, true, RECURSIVE), Outcome::Forward(_)));
    table.set("zone", &[]).unwrap();
    assert_eq!(reply(&table, &query).metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn srv_brings_the_addresses_of_its_targets() {
    let answer = reply(&table(), &question("_http._tcp.web.default.svc.cluster.local.", RecordType::SRV));
    assert_eq!(answer.answers[0].data.to_string(), "0 100 80 web.default.svc.cluster.local.");
    assert_eq!(answer.additionals[0].data.to_string(), "10.96.0.7");
}

#[test]
fn reverse_names_are_answered_when_known_and_forwarded_otherwise() {
    assert_eq!(ask("7.0.96.10.in-addr.arpa.", RecordType::PTR).1, ["web.default.svc.cluster.local."]);
    for name in ["8.0.96.10.in-addr.arpa.", "96.10.in-addr.arpa.", "example.org.", "notcluster.local."] {
        let query = question(name, RecordType::PTR).to_vec().unwrap();
        assert!(matches!(answer(&table(), &query, true, RECURSIVE), Outcome::Forward(_)), "{name}");
    }
}

#[test]
fn an_alias_is_followed_within_the_domain_and_handed_on_outside() {
    assert_eq!(
        ask("near.default.svc.cluster.local.", RecordType::A).1,
        ["10.96.0.7", "web.default.svc.cluster.local."]
    );
    assert_eq!(ask("near.default.svc.cluster.local.", RecordType::CNAME).1.len(), 1);
    let query = question("far.default.svc.cluster.local.", RecordType::A).to_vec().unwrap();
    match answer(&table(), &query, true, RECURSIVE) {
        Outcome::Follow { target, .. } => assert_eq!(target.to_ascii(), "example.org."),
        _ => panic!("not followed"),
    }
    assert_eq!(ask("far.default.svc.cluster.local.", RecordType::A).1, ["example.org."]);
}

#[test]
fn aliases_that_lead_in_circles_are_each_told_once() {
    let found = |name| ask(name, RecordType::A);
    let itself = found("loop.default.svc.cluster.local.");
    assert_eq!(itself, (ResponseCode::NoError, vec!["loop.default.svc.cluster.local.".to_owned()]));
    let others = ["Other.default.svc.cluster.local.", "one.default.svc.cluster.local."];
    assert_eq!(
        found("one.default.svc.cluster.local."),
        (ResponseCode::NoError, others.map(str::to_owned).to_vec())
    );
}

#[test]
fn pod_names_spell_their_address() {
    assert_eq!(ask("10-244-1-3.default.pod.cluster.local.", RecordType::A).1, ["10.244.1.3"]);
    assert_eq!(ask("fd00--1.default.pod.cluster.local.", RecordType::AAAA).1, ["fd00::1"]);
    assert_eq!(
        ask("10-244-1-3.default.pod.cluster.local.", RecordType::AAAA),
        (ResponseCode::NoError, vec![])
    );
    assert_eq!(ask("x.default.pod.cluster.local.", RecordType::A).0, ResponseCode::NXDomain);
    assert_eq!(ask("10-244-1-3.other.pod.cluster.local.", RecordType::A).0, ResponseCode::NXDomain);
}

#[test]
fn an_answer_too_large_for_udp_is_cut_and_says_so() {
    let mut query = question("many.default.svc.cluster.local.", RecordType::A);
    let plain = reply(&table(), &query);
    assert!(plain.metadata.truncation && !plain.answers.is_empty() && plain.answers.len() < 150);
    query.set_edns(Edns::new());
    query.edns.as_mut().unwrap().set_max_payload(4096);
    let larger = reply(&table(), &query);
    assert!(!larger.metadata.truncation && larger.answers.len() == 150);
    assert!(larger.edns.is_some());
    let wire = question("many.default.svc.cluster.local.", RecordType::A).to_vec().unwrap();
    let Outcome::Reply(over_tcp) = answer(&table(), &wire, false, Asker::default()) else {
        panic!("no reply")
    };
    assert_eq!(Message::from_vec(&over_tcp).unwrap().answers.len(), 150);
}

#[test]
fn addresses_come_in_changing_order() {
    let table = table();
    let query = question("many.default.svc.cluster.local.", RecordType::A);
    let firsts: std::collections::HashSet<_> =
        (0..50).map(|_| reply(&table, &query).answers[0].data.to_string()).collect();
    assert!(firsts.len() > 10);
}

#[test]
fn what_is_no_plain_question_is_refused_with_the_right_code() {
    let table = table();
    let plain = question("web.default.svc.cluster.local.", RecordType::A);
    let mut notify = plain.clone();
    notify.metadata.op_code = OpCode::Notify;
    let mut two = plain.clone();
    two.add_query(plain.queries[0].clone());
    let mut chaos = plain.clone();
    chaos.queries[0].set_query_class(DNSClass::CH);
    let mut version = plain.clone();
    version.set_edns(Edns::new());
    version.edns.as_mut().unwrap().set_version(1);
    for (query, code) in [
        (notify, ResponseCode::NotImp),
        (two, ResponseCode::FormErr),
        (chaos, ResponseCode::Refused),
        (version, ResponseCode::BADVERS),
        (question("cluster.local.", RecordType::AXFR), ResponseCode::Refused),
    ] {
        assert_eq!(u16::from(reply(&table, &query).metadata.response_code), u16::from(code));
    }
    let mut response = plain;
    response.metadata.message_type = MessageType::Response;
    assert!(matches!(answer(&table, &response.to_vec().unwrap(), true, RECURSIVE), Outcome::Drop));
}

#[test]
fn owners_replace_only_their_own_records() {
    let mut table = table();
    let count = table.len();
    let shared = [spec("web.default.svc.cluster.local", "A", "10.96.0.8")];
    table.set("other", &shared).unwrap();
    let query = question("web.default.svc.cluster.local.", RecordType::A);
    assert_eq!(reply(&table, &query).answers.len(), 2);
    table.set("svc/default/web", &[]).unwrap();
    assert_eq!(reply(&table, &query).answers.len(), 1);
    table.set("other", &[]).unwrap();
    assert_eq!(reply(&table, &query).metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(table.len(), count - 3);
    for owner in ["svc/default/many", "aliases", "ns"] {
        table.set(owner, &[]).unwrap();
    }
    assert!(table.is_empty());
    let below = question("default.svc.cluster.local.", RecordType::A);
    assert_eq!(reply(&table, &below).metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn what_two_owners_say_alike_is_answered_once() {
    let mut table = table();
    table.set("twin", &[spec("web.default.svc.cluster.local", "A", "10.96.0.7")]).unwrap();
    let query = question("web.default.svc.cluster.local.", RecordType::A);
    assert_eq!(reply(&table, &query).answers.len(), 1);
}

#[test]
fn a_delegated_domain_has_the_names_that_are_not_in_the_tables() {
    let mut table = table();
    let delegated = [Name::from_ascii("default.svc.cluster.local.").unwrap()];
    table.set_delegated(&delegated).unwrap();
    let ours = question("web.default.svc.cluster.local.", RecordType::A);
    assert_eq!(reply(&table, &ours).answers.len(), 1);
    let theirs = question("db.default.svc.cluster.local.", RecordType::A).to_vec().unwrap();
    assert!(matches!(answer(&table, &theirs, true, RECURSIVE), Outcome::Forward(_)));
    let outside = question("db.other.svc.cluster.local.", RecordType::A);
    assert_eq!(reply(&table, &outside).metadata.response_code, ResponseCode::NXDomain);
    for domain in ["cluster.local.", "local."] {
        let whole = [Name::from_ascii(domain).unwrap()];
        assert_eq!(table.set_delegated(&whole), Err(RecordError::Ours(domain.into())));
    }
}

#[test]
fn the_first_name_of_a_search_tells_the_others() {
    let mut table = table();
    let name = |text| Name::from_ascii(text).unwrap();
    let pod = "10.244.0.9".parse().unwrap();
    table.search_mut().set_client(pod, Some(name("default.svc.cluster.local.")));
    table.search_mut().set_host(vec![name("corp.example.")]);
    let search = |table: &Table, asked: &str, kind, client| {
        let wire = question(asked, kind).to_vec().unwrap();
        match answer(table, &wire, true, Asker { address: Some(client), recursive: true }) {
            Outcome::Search { names, .. } => names.iter().map(Name::to_ascii).collect(),
            _ => Vec::new(),
        }
    };
    let next = search(&table, "api.example.org.default.svc.cluster.local.", RecordType::AAAA, pod);
    let suffixes = ["svc.cluster.local.", "cluster.local.", "corp.example.", ""];
    assert_eq!(next, suffixes.map(|suffix| format!("api.example.org.{suffix}")));
    let none: Vec<String> = Vec::new();
    for asked in
        ["web.default.svc.cluster.local.", "default.svc.cluster.local.", "x.other.svc.cluster.local."]
    {
        assert_eq!(search(&table, asked, RecordType::A, pod), none, "{asked}");
    }
    let first = "api.example.org.default.svc.cluster.local.";
    assert_eq!(search(&table, first, RecordType::SRV, pod), none);
    assert_eq!(search(&table, first, RecordType::A, "10.244.0.10".parse().unwrap()), none);
    table.search_mut().set_client(pod, None);
    assert_eq!(search(&table, first, RecordType::A, pod), none);
}

#[test]
fn a_bad_record_changes_nothing_and_is_named() {
    let mut table = table();
    let bad = [spec("web.default.svc.cluster.local", "A", "10.96.0.999")];
    let error = table.set("svc/default/web", &bad).unwrap_err();
    assert_eq!(error, RecordError::Value { kind: "A".into(), value: "10.96.0.999".into() });
    assert!(matches!(table.set("x", &[spec("a", "MX", "")]), Err(RecordError::Kind(_))));
    assert!(matches!(table.set("x", &[spec("a..b", "EMPTY", "")]), Err(RecordError::Name(_))));
    assert_eq!(reply(&table, &question("web.default.svc.cluster.local.", RecordType::A)).answers.len(), 1);
}

#[test]
fn no_bytes_make_the_responder_panic_or_answer_a_non_query() {
    let table = table();
    let mut seeds = vec![
        question("web.default.svc.cluster.local.", RecordType::A).to_vec().unwrap(),
        question("many.default.svc.cluster.local.", RecordType::ANY).to_vec().unwrap(),
    ];
    seeds.push(vec![0; 12]);
    let mut random = 0x2545_F491_4F6C_DD1Du64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize
    };
    for turn in 0..20_000 {
        let mut wire = seeds[turn % seeds.len()].clone();
        for _ in 0..next() % 6 {
            let at = next() % wire.len();
            wire[at] = next() as u8;
        }
        wire.truncate(next() % (wire.len() * 2));
        wire.extend((0..next() % 4).map(|_| 0xc0));
        let is_query = wire.get(2).is_some_and(|flags| flags & 0x80 == 0) && wire.len() >= 12;
        match answer(&table, &wire, true, RECURSIVE) {
            Outcome::Reply(reply) => {
                assert!(is_query && reply.len() <= 4096);
                assert_eq!(reply[..2], wire[..2]);
                assert!(Message::from_vec(&reply).is_ok());
            }
            Outcome::Drop => {}
            Outcome::Forward(_) | Outcome::Follow { .. } | Outcome::Search { .. } => assert!(is_query),
        }
    }
}
