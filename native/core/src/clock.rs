//! The one clock of the Rust side: the system's, or a virtual one that a test advances.
//!
//! A `Clock` is cheap to clone; all clones of a virtual clock read the same time.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
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

/// The time since the epoch at `START`, in nanoseconds, as the system's clock had it a moment ago.
static BEGAN: AtomicU64 = AtomicU64::new(0);
/// When that was found out: nanoseconds since `START`; 0 while it has not been.
static LOOKED: AtomicU64 = AtomicU64::new(0);
/// So soon it is noticed that somebody has set the system's clock.
const MOMENT: Duration = Duration::from_millis(10);
/// What may pass between a look at the one clock and a look at the other.
const AT_ONCE: Duration = Duration::from_micros(10);

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

    /// What `unix` said at `then`, or within the ten milliseconds before it, without another look at the system's clock most
    /// of the time.
    pub fn unix_at(&self, then: Instant) -> Duration {
        if self.is_virtual() {
            return self.unix();
        }
        let since = nanoseconds(then.saturating_duration_since(*START));
        let looked = LOOKED.load(Acquire);
        if looked != 0 && since.saturating_sub(looked) < nanoseconds(MOMENT) {
            return Duration::from_nanos(BEGAN.load(Relaxed).saturating_add(since));
        }
        let (mut first, mut tries) = (START.elapsed(), 3);
        loop {
            let (unix, last) = (self.unix(), START.elapsed());
            let began = nanoseconds(unix).saturating_sub(nanoseconds(last));
            let is_sure = last - first < AT_ONCE;
            if is_sure {
                BEGAN.store(began, Relaxed);
                LOOKED.store(nanoseconds(last), Release);
            }
            tries -= 1;
            if is_sure || tries == 0 {
                return Duration::from_nanos(began.saturating_add(since));
            }
            // The thread had to wait in between.
            first = last;
        }
    }

    pub fn unix_seconds(&self) -> u64 {
        self.unix().as_secs()
    }

    pub fn unix_nanos(&self) -> u64 {
        nanoseconds(self.unix())
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

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
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
    fn the_time_since_the_epoch_is_told_of_a_moment_as_it_was_then() {
        let clock = Clock::system();
        let began = Instant::now();
        while began.elapsed() < MOMENT * 3 {
            let (before, then, after) = (clock.unix(), Instant::now(), clock.unix());
            let told = clock.unix_at(then);
            assert!(before <= told + MOMENT && told <= after + MOMENT, "{before:?} {told:?} {after:?}");
            let later = clock.unix_at(then + Duration::from_secs(1));
            let apart = (later - told).abs_diff(Duration::from_secs(1));
            assert!(apart < MOMENT, "{apart:?}");
        }
        let clock = Clock::starting_at(Duration::from_secs(1_000));
        assert_eq!(clock.unix_at(Instant::now()), Duration::from_secs(1_000));
    }

    #[test]
    fn the_system_clock_passes_by_itself() {
        let clock = Clock::system();
        assert!(clock.unix_seconds() > 1_700_000_000);
        assert!(!clock.advance(Duration::from_secs(1)));
        assert!(clock.virtual_sleep(Duration::ZERO).is_none());
    }
}
