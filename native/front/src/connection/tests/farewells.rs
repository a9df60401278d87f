//! What becomes of requests whose clients say nothing more.

use super::*;

#[tokio::test(start_paused = true)]
async fn who_says_nothing_more_gets_the_answer_to_what_was_asked() {
    for said in [ASK, b"POST /apis/somewhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"] {
        let mut pair = Pair::new();
        pair.client.write_all(said).await.unwrap();
        pair.client.shutdown().await.unwrap();
        let pending = pair.ask(b"").await;
        turns().await;
        assert!(!pending.presence.is_gone());
        let body = Bytes::from(vec![b'x'; 3 * PIPE]);
        assert!(pending.reply.send(Reply::Full { status: 200, headers: Vec::new(), body }).is_ok());
        let mut answer = String::new();
        pair.client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.bytes().filter(|byte| *byte == b'x').count(), 3 * PIPE);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_with_its_last_answer_and_not_later() {
    let mut pair = Pair::new();
    let pending = pair.ask(ASK).await;
    pair.client.shutdown().await.unwrap();
    turns().await;
    let began = tokio::time::Instant::now();
    assert!(pending.reply.send(bare_400()).is_ok());
    let mut answer = String::new();
    pair.client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && began.elapsed() < Duration::from_millis(100), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_more_and_waits_for_long_is_taken_to_have_gone() {
    const WATCH: &[u8] = b"GET /api/v1/pods?watch=1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    const PART: &[u8] = b"POST /apis/somewhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{";
    for (said, wait) in [(ASK, 1), (WATCH, 0)] {
        let mut pair = Pair::new();
        let pending = pair.ask(said).await;
        pair.client.shutdown().await.unwrap();
        turns().await;
        assert_eq!(pending.presence.is_gone(), wait == 0);
        tokio::time::sleep(Duration::from_secs(wait)).await;
        turns().await;
        assert!(pending.presence.is_gone());
    }
    let mut pair = Pair::new();
    pair.client.write_all(PART).await.unwrap();
    turns().await;
    pair.client.shutdown().await.unwrap();
    turns().await;
    let mut answer = String::new();
    pair.client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(pair.server.drain(1).1.is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_was_asked_for_a_body_and_ends_amid_it_is_not_waited_for() {
    let mut pair = Pair::new();
    let head = "POST /apis/somewhere HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    pair.client.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(pair.read_until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    pair.client.write_all(b"{").await.unwrap();
    pair.client.shutdown().await.unwrap();
    let began = tokio::time::Instant::now();
    let mut answer = String::new();
    pair.client.read_to_string(&mut answer).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(pair.server.drain(1).1.is_empty());
}
