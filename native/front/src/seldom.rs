//! Something to wait for beside what a task is woken for all the time.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Polled when it has woken the task itself, and not when something else has.
pub(crate) struct Seldom<F> {
    future: F,
    call: Arc<Call>,
    /// Of the call, for the future.
    waker: Waker,
}

struct Call {
    has_come: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_come.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F: Future> Seldom<F> {
    pub fn new(future: F) -> Self {
        let call = Arc::new(Call { has_come: AtomicBool::new(true), task: AtomicWaker::new() });
        Self { future, waker: Waker::from(call.clone()), call }
    }
}

impl<F: Future + Unpin> Future for Seldom<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        // Before the look: who calls after it wakes the task.
        this.call.task.register(cx.waker());
        if !this.call.has_come.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        Pin::new(&mut this.future).poll(&mut Context::from_waker(&this.waker))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::ready;

    use tokio::sync::oneshot;

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn it_is_polled_once_and_whenever_it_has_called() {
        let (polls, woken) = (Arc::new(AtomicUsize::new(0)), Arc::new(Counted::default()));
        let (tell, mut told) = oneshot::channel();
        let (counted, waker) = (polls.clone(), Waker::from(woken.clone()));
        let mut seldom = Seldom::new(std::future::poll_fn(move |cx| {
            counted.fetch_add(1, Ordering::Relaxed);
            Poll::Ready(ready!(Pin::new(&mut told).poll(cx)).unwrap())
        }));
        let mut poll = || Pin::new(&mut seldom).poll(&mut Context::from_waker(&waker));
        for _ in 0..5 {
            assert_eq!(poll(), Poll::Pending);
        }
        assert_eq!((polls.load(Ordering::Relaxed), woken.0.load(Ordering::Relaxed)), (1, 0));
        tell.send(7).unwrap();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert_eq!((poll(), polls.load(Ordering::Relaxed)), (Poll::Ready(7), 2));
    }

    #[test]
    fn whoever_polls_last_is_woken() {
        let [first, last] = [(); 2].map(|()| Arc::new(Counted::default()));
        let (tell, told) = oneshot::channel();
        let mut seldom = Seldom::new(told);
        for task in [&first, &last] {
            assert!(Pin::new(&mut seldom).poll(&mut Context::from_waker(&task.clone().into())).is_pending());
        }
        tell.send(()).unwrap();
        assert_eq!([first, last].map(|task| task.0.load(Ordering::Relaxed)), [0, 1]);
    }
}
