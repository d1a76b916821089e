//! Bounds the pictures of a shard that are finished and wait for an earlier row: rows are written in order.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use tokio::sync::oneshot;

/// Bytes of pictures that may wait; beyond them nothing is asked for but the row that all wait for.
pub(super) const WINDOW_BYTES: u64 = 64 << 20;

/// What waits in a shard.
#[derive(Debug, Default)]
pub(super) struct Window(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    bytes: u64,
    /// The row that is written next.
    next: u64,
    /// Rows that wait to be asked for.
    held: HashMap<u64, oneshot::Sender<()>>,
}

impl State {
    fn lets(&self, row: u64) -> bool {
        self.bytes <= WINDOW_BYTES || row == self.next
    }
}

impl Window {
    /// Whether this row may be asked for now.
    pub(super) fn lets(&self, row: u64) -> bool {
        self.state().lets(row)
    }

    /// Waits until this row may be asked for.
    pub(super) async fn pass(&self, row: u64) {
        loop {
            let turn = {
                let mut state = self.state();
                if state.lets(row) {
                    return;
                }
                let (sender, turn) = oneshot::channel();
                state.held.insert(row, sender);
                turn
            };
            let _ = turn.await; // who is let go for another reason looks again
        }
    }

    /// A picture of so many bytes waits to be written.
    pub(super) fn finished(&self, bytes: u64) {
        self.state().bytes += bytes;
    }

    /// The next row is written, and its picture is gone.
    pub(super) fn written(&self, bytes: u64) {
        let mut state = self.state();
        state.bytes = state.bytes.saturating_sub(bytes);
        state.next += 1;
        let next = state.next;
        if state.bytes <= WINDOW_BYTES {
            state.held.clear();
        } else {
            state.held.remove(&next);
        }
    }

    /// Whether rows may be begun at all.
    pub(super) fn is_open(&self) -> bool {
        self.state().bytes <= WINDOW_BYTES
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no thread panics with the lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn while_too_much_waits_only_the_first_row_goes_on() {
        let window = Window::default();
        let mut context = Context::from_waker(Waker::noop());
        let (mut first, mut second, mut third) = (pin!(window.pass(1)), pin!(window.pass(2)), pin!(window.pass(3)));
        window.finished(WINDOW_BYTES);
        assert!(window.is_open() && window.lets(7));
        window.finished(2);
        assert!(!window.is_open() && window.lets(0) && !window.lets(1));
        assert!(first.as_mut().poll(&mut context).is_pending());
        assert!(second.as_mut().poll(&mut context).is_pending());
        window.written(1);
        assert!(window.lets(1) && !window.lets(2));
        assert_eq!(first.as_mut().poll(&mut context), Poll::Ready(()));
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert!(third.as_mut().poll(&mut context).is_pending());
        window.written(1);
        assert_eq!(third.as_mut().poll(&mut context), Poll::Ready(()), "there is room again");
        assert_eq!(second.as_mut().poll(&mut context), Poll::Ready(()));
    }
}
