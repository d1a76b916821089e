//! What is known of the hosts that are asked: how many requests each has at once, when it wants to be left alone, whether it
//! answers at all, and what its robots.txt says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use robotxt::Robots;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};
use tokio::time::Instant;
use url::Url;

/// Hosts that are remembered; of more, those are forgotten that nobody waits for.
const HOSTS_MAX: usize = 65_536;
/// So many requests without an answer, one after the other, and a host is taken for dead.
const FAILURES_MAX: u32 = 8;
/// A dead host is left alone for so long; then some requests try again.
const REST: Duration = Duration::from_secs(60);
/// A host that wants to be left alone for longer is not waited for.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A host that wants to be left alone for longer is asked again all the same.
const LEFT_ALONE_MAX: Duration = Duration::from_secs(24 * 3600);

/// All hosts, by scheme, name and port.
#[derive(Debug)]
pub(super) struct Hosts {
    /// Requests that a host has at once.
    concurrency: usize,
    all: Mutex<HashMap<String, Arc<Host>>>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Host {
    turns: Semaphore,
    state: Mutex<State>,
    /// Empty until it has been read.
    pub(super) robots: OnceCell<Robots>,
}

#[derive(Debug, Default)]
struct State {
    /// Requests without an answer since the last answer.
    failures: u32,
    /// When it may be asked again.
    not_before: Option<Instant>,
}

impl Hosts {
    pub(super) fn new(concurrency: usize) -> Self {
        Self { concurrency: concurrency.clamp(1, Semaphore::MAX_PERMITS), all: Mutex::default() }
    }

    pub(super) fn of(&self, url: &Url) -> Arc<Host> {
        let mut all = self.all.lock().expect("no thread panics with the lock");
        if all.len() >= HOSTS_MAX {
            all.retain(|_, host| Arc::strong_count(host) > 1);
        }
        let new = || Host { turns: Semaphore::new(self.concurrency), state: Mutex::default(), robots: OnceCell::new() };
        all.entry(url.origin().ascii_serialization()).or_insert_with(|| Arc::new(new())).clone()
    }
}

impl Host {
    /// Waits until the host may be asked; `None` if it should not be waited for.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        let turn = self.turns.acquire().await.expect("the semaphore is never closed");
        loop {
            let not_before = self.state().not_before;
            let Some(time) = not_before.filter(|&time| time > Instant::now()) else { return Some(turn) };
            if time - Instant::now() > PAUSE_MAX {
                return None;
            }
            tokio::time::sleep_until(time).await;
        }
    }

    /// It has answered, whatever.
    pub(super) fn answered(&self) {
        self.state().failures = 0;
    }

    /// It has not answered.
    pub(super) fn failed(&self) {
        let mut state = self.state();
        state.failures += 1;
        if state.failures >= FAILURES_MAX {
            state.not_before = state.not_before.max(Some(Instant::now() + REST));
        }
    }

    /// It wants to be left alone.
    pub(super) fn pause(&self, time: Duration) {
        let mut state = self.state();
        state.not_before = state.not_before.max(Some(Instant::now() + time.min(LEFT_ALONE_MAX)));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics with the lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Arc<Host> {
        Hosts::new(2).of(&Url::parse("http://a.com/x").expect("absolute"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_does_not_answer_is_left_alone_and_tried_again() {
        let host = host();
        for _ in 0..FAILURES_MAX {
            assert!(host.turn().await.is_some());
            host.failed();
        }
        assert!(host.turn().await.is_none());
        tokio::time::sleep(REST + Duration::from_secs(1)).await;
        assert!(host.turn().await.is_some());
        host.failed();
        assert!(host.turn().await.is_none(), "still dead");
        tokio::time::sleep(REST + Duration::from_secs(1)).await;
        host.answered();
        host.failed();
        assert!(host.turn().await.is_some(), "one failure is nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_waited_for_unless_it_is_long() {
        let (host, started) = (host(), Instant::now());
        host.pause(Duration::from_secs(20));
        assert!(host.turn().await.is_some());
        assert!(started.elapsed() >= Duration::from_secs(20));
        host.pause(Duration::from_secs(3600));
        assert!(host.turn().await.is_none());
    }

    #[tokio::test]
    async fn a_host_has_so_many_requests_at_once_and_another_port_is_another_host() {
        let hosts = Hosts::new(1);
        let of = |url: &str| hosts.of(&Url::parse(url).expect("absolute"));
        let (first, same, other) = (of("http://a.com/x"), of("http://A.com:80/y"), of("http://a.com:81/x"));
        let turn = first.turn().await;
        assert!(same.turns.try_acquire().is_err());
        assert!(other.turns.try_acquire().is_ok());
        drop(turn);
        assert!(same.turns.try_acquire().is_ok());
    }

    #[test]
    fn memory_does_not_grow_with_the_hosts() {
        let hosts = Hosts::new(1);
        let kept = hosts.of(&Url::parse("http://kept.com").expect("absolute"));
        for number in 0..HOSTS_MAX + 5 {
            hosts.of(&Url::parse(&format!("http://host{number}.com")).expect("absolute"));
        }
        assert!(hosts.all.lock().expect("no panic").len() < 100);
        assert!(Arc::ptr_eq(&kept, &hosts.of(&Url::parse("http://kept.com").expect("absolute"))));
    }
}
