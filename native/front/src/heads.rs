//! Heads of HTTP/1.1 that have more fields than hyper has room for without being told.
//!
//! Where it is told to have room for more, it fills all of that for each head anew: 128 KB for 2,000 fields, 3.8 µs of the
//! 20 that a get took. Next to nobody sends so many, so that hyper is told when the first such head comes. What it holds of
//! the connection by then is given to its successor; for that it has to be known.

use std::mem::take;

use memchr::memchr_iter;

use crate::outflow::{Asked, Outflow};

/// hyper's room, the line of the request and an empty one among them: some fields less than it has.
const USUAL_LINES: usize = 100;

/// What hyper has been given of a connection since it held nothing.
#[derive(Default)]
pub(crate) struct Heads {
    /// Nothing is looked for any more: hyper has room, or nobody knows what it holds.
    is_over: bool,
    given: u64,
    /// As long as the head is not over: what has come of it.
    begun: Vec<u8>,
    lines: usize,
    /// Something has come of the next line, which is more than a carriage return.
    is_amid_line: bool,
    /// Where the head ends: bytes of `given`.
    end: Option<u64>,
}

impl Heads {
    /// Those of who has room.
    pub fn roomy() -> Self {
        Self { is_over: true, ..Self::default() }
    }

    /// hyper is about to be given `read`. True: it should not be, since its head has too many fields; `held`, then, is what
    /// somebody else has to begin with.
    pub fn come(&mut self, read: &[u8], outflow: &Outflow) -> bool {
        if self.is_over {
            return false;
        }
        if outflow.is_hypers_own() {
            self.hold_nothing_but_a_head(outflow.take_asked());
            if self.is_over {
                return false;
            }
            self.scan(read);
            if self.lines > USUAL_LINES {
                self.is_over = true;
                return true;
            }
            match self.end {
                None => self.begun.extend_from_slice(read),
                Some(_) => self.begun = Vec::new(),
            }
        }
        self.given += read.len() as u64;
        false
    }

    /// All that hyper has been given and has not answered, and what has come since.
    pub fn held(&mut self, read: &[u8]) -> Vec<u8> {
        let mut held = take(&mut self.begun);
        held.extend_from_slice(read);
        held
    }

    /// Nobody is being asked, and hyper wants more: of what it holds no request can be made.
    fn hold_nothing_but_a_head(&mut self, asked: Asked) {
        let is_known = match (asked, self.end) {
            (Asked::Nothing, end) => end.is_none(),
            (Asked::Once(body), Some(end)) => {
                let was_all = end.checked_add(body) == Some(self.given);
                (self.given, self.lines, self.end) = (0, 0, None);
                was_all
            }
            // The head was over for hyper, or it has had what comes behind it, or nobody says where the body ended.
            _ => false,
        };
        if !is_known {
            self.is_over = true;
            self.begun = Vec::new();
        }
    }

    /// Counts the lines of the head, those before it that are empty aside.
    fn scan(&mut self, read: &[u8]) {
        let mut from = 0;
        for at in memchr_iter(b'\n', read) {
            let is_empty = !self.is_amid_line && matches!(read[from..at], [] | [b'\r']);
            from = at + 1;
            self.is_amid_line = false;
            if !is_empty {
                self.lines += 1;
            } else if self.lines > 0 {
                self.end = Some(self.given + from as u64);
                return;
            }
        }
        self.is_amid_line |= !matches!(read[from..], [] | [b'\r']);
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    struct Request {
        empty_lines: usize,
        fields: usize,
        body: Vec<u8>,
        /// The body is of a length that is told before it.
        is_told: bool,
    }

    impl Request {
        fn head(&self) -> Vec<u8> {
            let lines = (0..self.fields).map(|number| format!("x-{number}: y\r\n"));
            let head = ["GET / HTTP/1.1\r\n".to_owned()].into_iter().chain(lines).collect::<String>();
            format!("{}{head}\r\n", "\r\n".repeat(self.empty_lines)).into_bytes()
        }
    }

    /// Plays hyper, and who answers what it makes of the bytes it is given.
    struct Peer<'r> {
        left: &'r [Request],
        holds: Vec<u8>,
        is_in_body: bool,
        outflow: Outflow,
    }

    impl Peer<'_> {
        fn take(&mut self, read: &[u8]) {
            self.holds.extend_from_slice(read);
            while let [request, left @ ..] = self.left {
                let needs = if self.is_in_body { request.body.len() } else { request.head().len() };
                if self.holds.len() < needs {
                    return;
                }
                self.holds.drain(..needs);
                if self.is_in_body {
                    self.left = left;
                    self.outflow.written(true, &mut Context::from_waker(Waker::noop()));
                } else {
                    self.outflow.asked(request.is_told.then_some(request.body.len() as u64));
                }
                self.is_in_body = !self.is_in_body;
            }
        }
    }

    fn requests() -> impl Strategy<Value = Vec<Request>> {
        let body =
            prop_oneof![Just(Vec::new()), vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'x')], 1..300)];
        let fields = prop_oneof![0..10_usize, 90..130_usize];
        let request = (0..3_usize, fields, body, prop::bool::weighted(0.9));
        vec(
            request.prop_map(|(empty_lines, fields, body, is_told)| Request {
                empty_lines,
                fields,
                is_told: is_told || body.is_empty(),
                body,
            }),
            1..6,
        )
    }

    proptest! {
        #[test]
        fn a_head_of_too_many_fields_is_kept_back_with_all_that_has_come_of_it(
            requests in requests(),
            step in 1..4000_usize,
            is_patient in any::<bool>(),
        ) {
            let outflow = Outflow::default();
            let mut peer = Peer { left: &requests, holds: Vec::new(), is_in_body: false, outflow };
            let mut heads = Heads::default();
            let all = requests.iter().map(|request| [request.head(), request.body.clone()].concat());
            // Who is patient asks nothing before an answer.
            let said: Vec<Vec<u8>> = if is_patient { all.collect() } else { vec![all.collect::<Vec<_>>().concat()] };
            for read in said.iter().flat_map(|said| said.chunks(step)) {
                if heads.come(read, &peer.outflow) {
                    prop_assert!(!peer.is_in_body);
                    prop_assert!(peer.left[0].fields + 1 > USUAL_LINES);
                    peer.holds.extend_from_slice(read);
                    prop_assert_eq!(heads.held(read), peer.holds);
                    return Ok(());
                }
                peer.take(read);
            }
            let first = requests.iter().position(|request| request.fields + 1 > USUAL_LINES);
            let is_known = requests.iter().take(first.unwrap_or(0)).all(|request| request.is_told);
            prop_assert!(first.is_none() || !is_patient || !is_known, "it has been given to hyper");
        }
    }

    #[test]
    fn lines_of_a_body_are_none_of_its_head() {
        let (mut heads, outflow) = (Heads::default(), Outflow::default());
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n";
        assert!(!heads.come(&[&head[..], &[b'\n'; 1000]].concat(), &outflow));
    }
}
