//! Any bytes as a request or an answer that the Ingress passes on: what comes out is read in one way only.
#![no_main]

use kubecore_ingress::as_sent;
use libfuzzer_sys::fuzz_target;

/// The headers of a head.
fn lines(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = message.windows(4).position(|four| four == b"\r\n\r\n");
    message[..end.expect("a head has an end")].split(|byte| *byte == b'\n').skip(1)
}

/// How often a header stands in a head.
fn times(message: &[u8], name: &str) -> usize {
    lines(message)
        .filter(|line| line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name.as_bytes()))
        .count()
}

fuzz_target!(|given: &[u8]| {
    if let Some((sent, taken)) = as_sent::request(given) {
        assert!(taken <= given.len());
        assert_eq!((times(&sent, "host:"), times(&sent, "transfer-encoding:")), (1, 0));
        assert!(times(&sent, "content-length:") <= 1);
        assert!(times(&sent, "x-forwarded-for:") == 1 && times(&sent, "connection:") == 0);
        // With those that are added there may be more than a relay takes: the next one leaves it to its HTTP library.
        let is_taken = lines(&sent).count() <= as_sent::MOST_OF_A_REQUEST;
        let (again, whole) = (as_sent::request(&sent), sent.len());
        assert_eq!(again, is_taken.then_some((sent, whole)), "the next one reads the same");
    }
    for to_head in [false, true] {
        let Some(sent) = as_sent::answer(given, to_head, usize::MAX) else {
            assert_eq!(as_sent::answer(given, to_head, 1), None);
            continue;
        };
        assert!(times(&sent, "content-length:") + times(&sent, "transfer-encoding:") <= 1);
        assert!(as_sent::answer(given, to_head, 1).is_some(), "however it arrives");
        let is_taken = lines(&sent).count() <= as_sent::MOST_OF_AN_ANSWER;
        let again = as_sent::answer(&sent, to_head, usize::MAX);
        assert_eq!(again, is_taken.then_some(sent), "the next one reads the same");
    }
});
