//! Answers that are there at once leave together. What is written to a connection is kept until all that is readable
//! has been served, and sent then: a client on this machine that waits for many answers wakes up once and finds them all. It would wake up for
//! each otherwise, which whoever sends it pays for (2 us on a virtual machine, as much as the sending).

use std::cell::RefCell;
use std::io::IoSlice;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};

use parking_lot::{Mutex, MutexGuard};
use tokio::runtime::Handle;

/// Bytes that are kept of a connection: what is larger does not wait.
const MOST_BYTES: usize = 16 << 10;
/// Connections that have something to send: with more, the first of them would wait too long.
const MOST_CONNECTIONS: usize = 16;

/// What a connection has to send.
pub(crate) struct Cork {
    /// Of the connection's socket; it is open until `close`.
    socket: RawFd,
    kept: Mutex<Kept>,
    /// The socket has not taken all of it: the connection's task is to go on.
    is_stuck: AtomicBool,
}

#[derive(Default)]
pub(crate) struct Kept {
    pub bytes: Vec<u8>,
    /// Somebody will send it.
    is_due: bool,
    is_closed: bool,
    task: Option<Waker>,
}

type Round = Arc<Mutex<Vec<Arc<Cork>>>>;

thread_local! {
    /// Connections that this thread has served and that have something to send.
    static ROUND: Round = Arc::default();
    /// Memory for what is kept next: connections have none while they say nothing.
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

impl Cork {
    pub fn new(socket: RawFd) -> Arc<Self> {
        Arc::new(Self { socket, kept: Mutex::default(), is_stuck: AtomicBool::new(false) })
    }

    /// How many bytes they are, if they are kept, all of them; None: they are to be sent behind what is.
    pub fn keep(self: &Arc<Self>, cx: &Context<'_>, slices: &[IoSlice<'_>]) -> Option<usize> {
        let count = slices.iter().map(|slice| slice.len()).sum::<usize>();
        let mut kept = self.kept.lock();
        if kept.bytes.len() + count > MOST_BYTES || self.is_stuck() {
            return None;
        }
        let runtime = Handle::try_current().ok()?;
        if kept.bytes.capacity() == 0 {
            kept.bytes = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        }
        slices.iter().for_each(|slice| kept.bytes.extend_from_slice(slice));
        if !kept.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            kept.task = Some(cx.waker().clone());
        }
        if !std::mem::replace(&mut kept.is_due, true) {
            drop(kept);
            ROUND.with(|round| join(round, self.clone(), &runtime));
        }
        Some(count)
    }

    /// Whether something is left that only the connection's task can send.
    pub fn is_stuck(&self) -> bool {
        self.is_stuck.load(Ordering::Relaxed)
    }

    /// For the connection's task to send it itself.
    pub fn take(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock()
    }

    /// The task has sent all of it.
    pub fn sent(&self, mut kept: MutexGuard<'_, Kept>) {
        give_back(&mut kept.bytes);
        self.is_stuck.store(false, Ordering::Relaxed);
    }

    /// To be called while the socket is open still.
    pub fn close(&self) {
        self.send();
        self.kept.lock().is_closed = true;
    }

    fn send(&self) {
        let mut kept = self.kept.lock();
        kept.is_due = false;
        if kept.is_closed || kept.bytes.is_empty() {
            return;
        }
        let (start, length) = (kept.bytes.as_ptr().cast(), kept.bytes.len());
        // SAFETY: so many bytes are there; the socket is open, as nobody has called `close` with the lock that we hold.
        let sent = unsafe { libc::send(self.socket, start, length, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
        match usize::try_from(sent) {
            Ok(sent) if sent == length => give_back(&mut kept.bytes),
            // The socket is full, or broken, which the task is told when it tries.
            sent => {
                kept.bytes.drain(..sent.unwrap_or(0));
                self.is_stuck.store(true, Ordering::Relaxed);
                if let Some(task) = kept.task.take() {
                    task.wake();
                }
            }
        }
    }
}

/// The first one of a round sees to it that all are sent.
fn join(round: &Round, cork: Arc<Cork>, runtime: &Handle) {
    let count = {
        let mut corks = round.lock();
        corks.push(cork);
        corks.len()
    };
    if count >= MOST_CONNECTIONS {
        send_all(round);
    } else if count == 1 {
        let round = round.clone();
        runtime.spawn(async move {
            // Goes on after what is readable now has been served.
            tokio::task::yield_now().await;
            send_all(&round);
        });
    }
}

fn send_all(round: &Round) {
    let corks = std::mem::take(&mut *round.lock());
    corks.iter().for_each(|cork| cork.send());
}

fn give_back(bytes: &mut Vec<u8>) {
    let mut bytes = std::mem::take(bytes);
    bytes.clear();
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < MOST_CONNECTIONS {
            spare.push(bytes);
        }
    });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::io::StallGuard;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Two ends of a connection, of which the first is corked.
    async fn connected() -> (StallGuard, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nonblocking(true).unwrap();
        let (served, _) = listener.accept().await.unwrap();
        let server = StallGuard::new(served, PATIENCE);
        server.pace().answers(true);
        (server, client)
    }

    fn has_come(client: &std::net::TcpStream) -> bool {
        client.peek(&mut [0]).is_ok()
    }

    /// What comes until the end.
    async fn read(client: std::net::TcpStream) -> Vec<u8> {
        let mut came = Vec::new();
        let mut client = TcpStream::from_std(client).unwrap();
        tokio::time::timeout(PATIENCE, client.read_to_end(&mut came)).await.expect("no end comes").unwrap();
        came
    }

    #[tokio::test]
    async fn answers_leave_once_all_that_is_ready_has_been_served() {
        let mut pairs = [connected().await, connected().await];
        for number in 0..2 {
            pairs[number].0.write_all(b"answer").await.unwrap();
            pairs[number].0.flush().await.unwrap();
            assert!(!pairs.iter().any(|(_, client)| has_come(client)), "{number}");
        }
        while !pairs.iter().all(|(_, client)| has_come(client)) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn the_first_of_many_need_not_wait_for_the_last() {
        let mut pairs = Vec::new();
        for _ in 0..MOST_CONNECTIONS {
            pairs.push(connected().await);
        }
        for number in 0..MOST_CONNECTIONS {
            assert!(!pairs.iter().any(|(_, client)| has_come(client)));
            pairs[number].0.write_all(b"answer").await.unwrap();
        }
        assert!(pairs.iter().all(|(_, client)| has_come(client)));
    }

    #[tokio::test]
    async fn what_is_large_leaves_at_once_behind_what_is_kept() {
        let (mut server, client) = connected().await;
        server.write_all(b"small").await.unwrap();
        server.write_all(&[b'x'; MOST_BYTES]).await.unwrap();
        assert!(has_come(&client));
        drop(server);
        assert_eq!(read(client).await, [&b"small"[..], &[b'x'; MOST_BYTES]].concat());
    }

    #[tokio::test]
    async fn nothing_is_kept_of_a_connection_that_speaks_another_protocol() {
        let (mut server, client) = connected().await;
        server.pace().switched();
        server.write_all(b"typed").await.unwrap();
        assert!(has_come(&client));
    }

    #[tokio::test]
    async fn what_is_kept_leaves_before_the_end() {
        for shuts_down in [false, true] {
            let (mut server, client) = connected().await;
            server.write_all(b"answer").await.unwrap();
            if shuts_down {
                server.shutdown().await.unwrap();
            }
            drop(server);
            assert_eq!(read(client).await, b"answer");
        }
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_breaks_its_connection() {
        let (mut server, _client) = connected().await;
        let mut stalled = None;
        server.limit_stalls(Duration::from_millis(20));
        // Until the kernel takes no more, and then some.
        while stalled.is_none() {
            stalled = server.write_all(&[0; MOST_BYTES / 2]).await.err();
        }
        assert_eq!(stalled.map(|error| error.kind()), Some(std::io::ErrorKind::TimedOut));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn whatever_is_written_comes_whole_and_in_order(
            sizes in prop::collection::vec((1..3 * MOST_BYTES, any::<bool>()), 1..64)
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (mut server, client) = connected().await;
                // It reads when the server cannot go on, or rests.
                let reading = tokio::spawn(read(client));
                let mut sent = Vec::new();
                for (number, (size, rests)) in sizes.into_iter().enumerate() {
                    let piece = vec![number as u8; size];
                    server.write_all(&piece).await.unwrap();
                    server.flush().await.unwrap();
                    sent.extend(piece);
                    if rests {
                        tokio::task::yield_now().await;
                    }
                }
                server.shutdown().await.unwrap();
                assert!(reading.await.unwrap() == sent);
            });
        }
    }
}
