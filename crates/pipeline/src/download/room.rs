//! Memory for bodies that are on their way or wait for a decoder: bounded, however many connections there are.

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

/// Memory for all bodies together.
const ROOM_BYTES: usize = 96 << 20;
/// It is handed out in such steps.
const STEP_BYTES: usize = 64 << 10;

/// What is left of it.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    steps: Arc<Semaphore>,
    /// One body at a time may have more than there is, so that not all wait for all.
    beyond: Arc<Mutex<()>>,
}

/// What one body has of it; given back when dropped.
#[derive(Debug)]
pub(super) struct Room {
    memory: Memory,
    bytes: usize,
    steps: Option<OwnedSemaphorePermit>,
    beyond: Option<OwnedMutexGuard<()>>,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self { steps: Arc::new(Semaphore::new(ROOM_BYTES / STEP_BYTES)), beyond: Arc::default() }
    }

    pub(super) fn room(&self) -> Room {
        Room { memory: self.clone(), bytes: 0, steps: None, beyond: None }
    }
}

impl Room {
    /// Waits until a body of so many bytes may be held.
    pub(super) async fn grow_to(&mut self, bytes: usize) {
        while self.bytes < bytes && self.beyond.is_none() {
            tokio::select! {
                biased;
                step = self.memory.steps.clone().acquire_owned() => {
                    let step = step.expect("the semaphore is never closed");
                    match &mut self.steps {
                        Some(steps) => steps.merge(step),
                        none => *none = Some(step),
                    }
                    self.bytes += STEP_BYTES;
                }
                beyond = self.memory.beyond.clone().lock_owned() => self.beyond = Some(beyond),
            }
        }
    }

    /// Waits until this is the one body that may have more than there is.
    pub(super) async fn beyond(&mut self) {
        if self.beyond.is_none() {
            self.beyond = Some(self.memory.beyond.clone().lock_owned().await);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn waits(growing: impl Future<Output = ()>) -> bool {
        pin!(growing).poll(&mut Context::from_waker(Waker::noop())) == Poll::Pending
    }

    #[tokio::test]
    async fn one_body_goes_on_where_all_others_wait() {
        let memory = Memory::new();
        let (mut large, mut last, mut next) = (memory.room(), memory.room(), memory.room());
        large.grow_to(ROOM_BYTES).await;
        assert!(large.beyond.is_none());
        last.grow_to(10 * STEP_BYTES).await;
        assert!(waits(next.grow_to(1)));
        drop(last);
        next.grow_to(1).await;
        assert!(waits(memory.room().grow_to(1)));
        drop(large);
        let mut other = memory.room();
        other.grow_to(STEP_BYTES + 1).await;
        assert!(other.beyond.is_none());
    }
}
