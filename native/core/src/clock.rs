//! The one clock of the Rust side: the system's, or a virtual one that a test advances.
//!
//! A `Clock` is cheap to clone; all clones of a virtual clock read the same time.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

#[derive(Clone, Debug, Default)]
pub struct Clock {
    virtual_time: Option<Arc<Mutex<VirtualTime>>>,
}

#[derive(Debug)]
struct VirtualTime {
    start: Duration,
    elapsed: Duration,
    /// Those that wait, by the elapsed time at which they want to be woken and an order of arrival.
    sleepers: BTreeMap<(Duration, u64), Waker>,
    arrivals: u64,
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Clock {
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that stands at `unix` (time since the epoch) until it is advanced.
    pub fn starting_at(unix: Duration) -> Self {
        let time =
            VirtualTime { start: unix, elapsed: Duration::ZERO, sleepers: BTreeMap::new(), arrivals: 0 };
        Self { virtual_time: Some(Arc::new(Mutex::new(time))) }
    }

    pub fn is_virtual(&self) -> bool {
        self.virtual_time.is_some()
    }

    /// Time since the Unix epoch.
    pub fn unix(&self) -> Duration {
        match &self.virtual_time {
            Some(time) => {
                let time = time.lock();
                time.start + time.elapsed
            }
            None => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        }
    }

    pub fn unix_seconds(&self) -> u64 {
        self.unix().as_secs()
    }

    pub fn unix_nanos(&self) -> u64 {
        u64::try_from(self.unix().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Time since an unspecified point of this process; never goes back.
    pub fn monotonic(&self) -> Duration {
        match &self.virtual_time {
            Some(time) => time.lock().elapsed,
            None => START.elapsed(),
        }
    }

    /// What `monotonic` said just now, to who has looked at the system's clock then.
    pub fn monotonic_at(&self, now: Instant) -> Duration {
        if self.is_virtual() { self.monotonic() } else { now.saturating_duration_since(*START) }
    }

    /// Let virtual time pass and wake whoever waited for it. The system's clock passes by itself: false, nothing done.
    pub fn advance(&self, step: Duration) -> bool {
        let Some(time) = &self.virtual_time else { return false };
        let due = {
            let mut time = time.lock();
            time.elapsed += step;
            let now = time.elapsed;
            let later = time.sleepers.split_off(&(now, u64::MAX));
            std::mem::replace(&mut time.sleepers, later)
        };
        due.into_values().for_each(Waker::wake);
        true
    }

    /// A wait in virtual time; None for the system's clock, whose waits belong to the caller's runtime
    /// (`tokio::time::sleep`).
    pub fn virtual_sleep(&self, duration: Duration) -> Option<VirtualSleep> {
        let time = self.virtual_time.clone()?;
        let until = time.lock().elapsed + duration;
        Some(VirtualSleep { time, until, slot: None })
    }
}

/// Resolves when virtual time has reached the point asked for.
#[derive(Debug)]
pub struct VirtualSleep {
    time: Arc<Mutex<VirtualTime>>,
    until: Duration,
    slot: Option<(Duration, u64)>,
}

impl Future for VirtualSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let shared = Arc::clone(&self.time);
        let mut time = shared.lock();
        if time.elapsed >= self.until {
            return Poll::Ready(());
        }
        let slot = self.slot.unwrap_or_else(|| {
            time.arrivals += 1;
            (self.until, time.arrivals)
        });
        time.sleepers.insert(slot, context.waker().clone());
        self.slot = Some(slot);
        Poll::Pending
    }
}

impl Drop for VirtualSleep {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.time.lock().sleepers.remove(&slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_time_stands_still_until_it_is_advanced_and_clones_agree() {
        let clock = Clock::starting_at(Duration::from_secs(1_000));
        let other = clock.clone();
        assert_eq!(other.unix_seconds(), 1_000);
        assert!(clock.advance(Duration::from_millis(1_500)));
        assert_eq!(other.unix(), Duration::from_millis(1_001_500));
        assert_eq!(other.monotonic(), Duration::from_millis(1_500));
    }

    #[test]
    fn a_virtual_sleeper_wakes_when_its_time_has_come() {
        let clock = Clock::starting_at(Duration::ZERO);
        let mut sleep = clock.virtual_sleep(Duration::from_secs(2)).expect("virtual");
        let mut context = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut sleep).poll(&mut context).is_pending());
        clock.advance(Duration::from_secs(1));
        assert!(Pin::new(&mut sleep).poll(&mut context).is_pending());
        clock.advance(Duration::from_secs(1));
        assert!(Pin::new(&mut sleep).poll(&mut context).is_ready());
    }

    #[test]
    fn the_system_clock_passes_by_itself() {
        let clock = Clock::system();
        assert!(clock.unix_seconds() > 1_700_000_000);
        assert!(!clock.advance(Duration::from_secs(1)));
        assert!(clock.virtual_sleep(Duration::ZERO).is_none());
    }
}
