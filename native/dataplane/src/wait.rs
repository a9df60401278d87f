//! Waiting by the clock that was handed in: a virtual one in tests, tokio's timer otherwise.

use std::time::Duration;

use kubecore_core::clock::Clock;

/// Time counts from the call, not from the first poll: what a test does to the clock once the work has begun is felt.
pub(crate) fn sleep(clock: &Clock, duration: Duration) -> impl Future<Output = ()> + use<> {
    let wait = clock.virtual_sleep(duration).ok_or_else(|| tokio::time::sleep(duration));
    async move {
        match wait {
            Ok(virtual_sleep) => virtual_sleep.await,
            Err(sleep) => sleep.await,
        }
    }
}

/// None when `duration` was over first.
pub(crate) async fn timeout<F: Future>(clock: &Clock, duration: Duration, future: F) -> Option<F::Output> {
    let over = sleep(clock, duration);
    tokio::select! {
        biased;
        output = future => Some(output),
        () = over => None,
    }
}

/// Milliseconds, as the balancer counts them.
pub(crate) fn now(clock: &Clock) -> u64 {
    u64::try_from(clock.monotonic().as_millis()).unwrap_or(u64::MAX)
}
