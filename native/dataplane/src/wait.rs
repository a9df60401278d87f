//! Waiting by the clock that was handed in: a virtual one in tests, tokio's timer otherwise.

use std::time::Duration;

use kubecore_core::clock::Clock;

pub(crate) async fn sleep(clock: &Clock, duration: Duration) {
    match clock.virtual_sleep(duration) {
        Some(sleep) => sleep.await,
        None => tokio::time::sleep(duration).await,
    }
}

/// None when `duration` was over first.
pub(crate) async fn timeout<F: Future>(clock: &Clock, duration: Duration, future: F) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = sleep(clock, duration) => None,
    }
}

/// Milliseconds, as the balancer counts them.
pub(crate) fn now(clock: &Clock) -> u64 {
    u64::try_from(clock.monotonic().as_millis()).unwrap_or(u64::MAX)
}
