//! What is known of the hosts that are asked: how many requests each has at once and in a second, when it wants to be left
//! alone, whether it answers at all, and what its robots.txt says.
//!
//! A host that does not answer costs little, and nobody else anything:
//!
//! - Until it has answered, and again after a failure, it gets one request at once.
//! - It is waited for without an answer for one and a half deadlines in all; then it rests, for longer each time. So a run
//!   ends within two deadlines of its last good answer, whichever hosts its last rows are of.
//! - Many failures that come at once are the end as well, unless most of its requests are answered.
//! - A host whose answers are slow keeps its turns, but the rows that wait for one do not wait for ever.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use robotxt::Robots;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};
use tokio::time::Instant;
use url::Url;

/// Hosts that are remembered; of more, those are forgotten that nobody waits for.
const HOSTS_MAX: usize = 65_536;
/// Bytes of rules of robots.txt that are remembered; of more, hosts are forgotten as well.
const RULES_BYTES_MAX: usize = 64 << 20;
/// So many requests without an answer, and a host is taken for dead. An answer halves the count.
const FAILURES_MAX: u32 = 8;
/// A dead host is left alone for so long; then one request tries again, and where it fails, twice as long.
const REST: Duration = Duration::from_secs(60);
/// A dead host is left alone for no longer.
const REST_MAX: Duration = Duration::from_secs(3600);
/// A host that refuses for now and does not say for how long (429 and 503) is left alone for so long, and twice as long
/// when it refuses again.
const PAUSE: Duration = Duration::from_secs(1);
/// A host that wants to be left alone for longer is not waited for.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A host that wants to be left alone for longer is asked again all the same.
const LEFT_ALONE_MAX: Duration = Duration::from_secs(24 * 3600);
/// So many deadlines long a row waits for its turn at a host that gives no quick answer.
const TURN_DEADLINES: u32 = 30;

/// What a host gets.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// Requests at once.
    pub(super) concurrency: usize,
    /// From the start of one request to that of the next.
    pub(super) interval: Option<Duration>,
    /// Time for one request.
    pub(super) deadline: Duration,
}

/// All hosts, by scheme, name and port.
#[derive(Debug)]
pub(super) struct Hosts {
    limits: Limits,
    all: Mutex<HashMap<String, Arc<Host>>>,
    /// Of robots.txt, since hosts were last forgotten.
    rules_bytes: AtomicUsize,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Host {
    limits: Limits,
    turns: Semaphore,
    /// For the one request that a host gets which has not answered.
    first: Semaphore,
    state: Mutex<State>,
    /// Empty until it has been read.
    pub(super) robots: OnceCell<Robots>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether its last request was answered.
    answers: bool,
    /// Requests without an answer, halved by every answer.
    failures: u32,
    /// How long it has been asked without an answer since the last one, requests at once counted once.
    silent: Duration,
    /// How long requests were tried again meanwhile, for which the host is not to blame.
    again: Duration,
    /// Until when that is counted.
    silent_until: Option<Instant>,
    /// Rests since the last answer.
    rests: u32,
    /// Refusals since the last answer that was none.
    refusals: u32,
    /// When it may be asked again.
    not_before: Option<Instant>,
    /// When the next request may start.
    next: Option<Instant>,
    /// When its last quick answer came.
    quick: Option<Instant>,
}

/// The right to one request.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    _turn: SemaphorePermit<'a>,
    _first: Option<SemaphorePermit<'a>>,
}

impl Hosts {
    pub(super) fn new(limits: Limits) -> Self {
        let concurrency = limits.concurrency.clamp(1, Semaphore::MAX_PERMITS);
        Self { limits: Limits { concurrency, ..limits }, all: Mutex::default(), rules_bytes: AtomicUsize::new(0) }
    }

    pub(super) fn of(&self, url: &Url) -> Arc<Host> {
        let mut all = self.all.lock().expect("no thread panics with the lock");
        if all.len() >= HOSTS_MAX || self.rules_bytes.load(Ordering::Relaxed) > RULES_BYTES_MAX {
            all.retain(|_, host| Arc::strong_count(host) > 1);
            self.rules_bytes.store(0, Ordering::Relaxed);
        }
        let new = || Host {
            limits: self.limits.clone(),
            turns: Semaphore::new(self.limits.concurrency),
            first: Semaphore::new(1),
            state: Mutex::default(),
            robots: OnceCell::new(),
        };
        all.entry(url.origin().ascii_serialization()).or_insert_with(|| Arc::new(new())).clone()
    }

    /// Rules that a host is remembered with.
    pub(super) fn remember(&self, robots: &Robots) {
        let rules = robots.rules().iter().map(|rule| size_of_val(rule) + rule.pattern().len());
        let sitemaps = robots.sitemaps().iter().map(|url| size_of_val(url) + url.as_str().len());
        self.rules_bytes.fetch_add(rules.chain(sitemaps).sum(), Ordering::Relaxed);
    }
}

impl Host {
    /// Waits until the host may be asked; or says why it should not be waited for.
    pub(super) async fn turn(&self) -> Result<Turn<'_>, &'static str> {
        let mut turn = pin!(self.wait());
        let mut since = Instant::now();
        loop {
            match tokio::time::timeout_at(since + self.limits.deadline * TURN_DEADLINES, &mut turn).await {
                Ok(Some(turn)) => return Ok(turn),
                Ok(None) => return Err("the host is left alone for now"),
                Err(_) => match self.state().quick.filter(|&quick| quick > since) {
                    Some(quick) => since = quick,
                    None => return Err("the host answers too slowly to be waited for any longer"),
                },
            }
        }
    }

    async fn wait(&self) -> Option<Turn<'_>> {
        let turn = self.turns.acquire().await.expect("the semaphore is never closed");
        let mut first = None;
        if !self.state().answers {
            first = Some(self.first.acquire().await.expect("the semaphore is never closed"));
        }
        let mut spaced = self.limits.interval.is_none();
        loop {
            let now = Instant::now();
            let start = {
                let mut state = self.state();
                first = first.filter(|_| !state.answers);
                let paused = state.not_before.filter(|&time| time > now);
                match (paused, self.limits.interval) {
                    // A pause that the host asked for is waited for, if it is short; the rest of a dead one is not.
                    (Some(time), _) if state.rests > 0 || time - now > PAUSE_MAX => return None,
                    (Some(time), _) => {
                        spaced = self.limits.interval.is_none();
                        time
                    }
                    (None, Some(interval)) if !spaced => {
                        let start = state.next.map_or(now, |next| next.max(now));
                        state.next = Some(start + interval);
                        spaced = true;
                        start
                    }
                    _ => return Some(Turn { _turn: turn, _first: first }),
                }
            };
            tokio::time::sleep_until(start).await;
        }
    }

    /// How long a request may take: less where the host has been asked in vain before, by the same request where it is tried
    /// `again`.
    pub(super) fn patience(&self, again: bool) -> Duration {
        let state = self.state();
        let silent = if again { state.silent + state.again } else { state.silent };
        self.silence_max().saturating_sub(silent).min(self.limits.deadline)
    }

    fn silence_max(&self) -> Duration {
        self.limits.deadline * 3 / 2
    }

    /// It has answered a request, whatever, that took so long.
    pub(super) fn answered(&self, time: Duration) {
        let mut state = self.state();
        *state = State {
            answers: true,
            failures: state.failures / 2,
            silent: Duration::ZERO,
            again: Duration::ZERO,
            rests: 0,
            refusals: 0,
            quick: if time <= self.limits.deadline / 4 { Some(Instant::now()) } else { state.quick },
            ..*state
        };
    }

    /// It has not answered a request that took so long. Where the same was asked `again`, that says nothing new of the host:
    /// one bad address, tried twice, must not take those with it that are good.
    pub(super) fn failed(&self, time: Duration, again: bool) {
        let mut state = self.state();
        let now = Instant::now();
        if state.not_before.is_some_and(|time| time > now) {
            return; // a request from before its rest
        }
        state.answers = false;
        let counted = time.min(state.silent_until.map_or(Duration::MAX, |until| now - until));
        if again {
            state.again += counted;
        } else {
            state.silent += counted;
            state.failures += 1;
        }
        state.silent_until = Some(now);
        if state.failures >= FAILURES_MAX || state.silent >= self.silence_max() || state.rests > 0 {
            let rest = REST.saturating_mul(1 << state.rests.min(6)).min(REST_MAX);
            *state = State {
                failures: 0,
                silent: Duration::ZERO,
                again: Duration::ZERO,
                rests: state.rests + 1,
                not_before: Some(now + rest),
                ..*state
            };
        }
    }

    /// It refuses for now, and may say for how long.
    pub(super) fn refused(&self, time: Option<Duration>) {
        let mut state = self.state();
        let now = Instant::now();
        if time.is_none() && state.not_before.is_some_and(|time| time > now) {
            return; // a request from before its pause
        }
        let pause = time.unwrap_or(PAUSE * (1 << state.refusals.min(6)));
        state.refusals += 1;
        (state.answers, state.rests) = (true, 0);
        state.not_before = state.not_before.max(Some(now + pause.min(LEFT_ALONE_MAX)));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics with the lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    fn limits(concurrency: usize) -> Limits {
        Limits { concurrency, interval: None, deadline: DEADLINE }
    }

    fn host() -> Arc<Host> {
        Hosts::new(limits(2)).of(&Url::parse("http://a.com/x").expect("absolute"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_does_not_answer_is_left_alone_and_tried_again() {
        let host = host();
        for _ in 0..FAILURES_MAX {
            assert!(host.turn().await.is_ok());
            host.failed(Duration::ZERO, false);
        }
        assert!(host.turn().await.is_err());
        tokio::time::sleep(REST - Duration::from_secs(1)).await;
        assert!(host.turn().await.is_err(), "nobody waits for a dead host");
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(host.turn().await.is_ok());
        host.failed(Duration::ZERO, false);
        assert!(host.turn().await.is_err(), "still dead");
        tokio::time::sleep(REST + Duration::from_secs(1)).await;
        assert!(host.turn().await.is_err(), "it rests longer every time");
        tokio::time::sleep(REST).await;
        host.answered(Duration::ZERO);
        host.failed(Duration::ZERO, false);
        assert!(host.turn().await.is_ok(), "one failure is nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_host_is_waited_for_one_and_a_half_deadlines_whatever_is_asked() {
        let (host, started) = (host(), Instant::now());
        let ask = || async {
            let turn = host.turn().await?;
            let patience = host.patience(false);
            tokio::time::sleep(patience).await;
            host.failed(patience, false);
            drop(turn);
            Ok::<(), &str>(())
        };
        let ends = futures::future::join_all((0..100).map(|_| ask())).await;
        assert_eq!(started.elapsed(), DEADLINE * 3 / 2);
        assert_eq!(ends.iter().filter(|end| end.is_ok()).count(), 2, "one request at once");
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_fails_again_says_nothing_new() {
        let host = host();
        host.failed(DEADLINE, false);
        tokio::time::sleep(DEADLINE / 2).await;
        host.failed(DEADLINE / 2, true);
        assert!(host.turn().await.is_ok());
        assert_eq!(host.patience(true), Duration::ZERO, "however often it is tried, one and a half deadlines are all");
        assert_eq!(host.patience(false), DEADLINE / 2, "another address is still waited for");
        tokio::time::sleep(DEADLINE / 2).await;
        host.failed(DEADLINE / 2, false);
        assert!(host.turn().await.is_err(), "two addresses are enough");
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_fail_at_once_are_one_silence() {
        let host = host();
        host.answered(Duration::ZERO);
        let turns = [host.turn().await.expect("a turn"), host.turn().await.expect("another at once")];
        tokio::time::sleep(DEADLINE).await;
        host.failed(DEADLINE, false);
        host.failed(DEADLINE, false);
        drop(turns);
        assert_eq!(host.patience(false), DEADLINE / 2);
        assert!(host.turn().await.is_ok());
        host.answered(Duration::ZERO);
        assert_eq!(host.patience(false), DEADLINE);
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_host_that_answers_slowly_no_row_waits_for_ever() {
        let (host, started) = (host(), Instant::now());
        let ask = |time: Duration| {
            let host = &host;
            async move {
                let _turn = host.turn().await?;
                tokio::time::sleep(time).await;
                host.answered(time);
                Ok::<(), &str>(())
            }
        };
        let ends = futures::future::join_all((0..300).map(|_| ask(DEADLINE * 9 / 10))).await;
        let good = ends.iter().filter(|end| end.is_ok()).count();
        assert!((50..100).contains(&good), "{good}");
        assert!(started.elapsed() <= DEADLINE * (TURN_DEADLINES + 1), "{:?}", started.elapsed());

        let ends = futures::future::join_all((0..2000).map(|_| ask(Duration::from_secs(1)))).await;
        assert!(ends.iter().all(Result::is_ok), "whoever is quick is waited for");
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_spaced() {
        let limits = Limits { interval: Some(Duration::from_millis(500)), ..limits(4) };
        let host = Hosts::new(limits).of(&Url::parse("http://a.com").expect("absolute"));
        host.answered(Duration::ZERO);
        let started = Instant::now();
        let starts = futures::future::join_all((0..4).map(|_| async {
            let _turn = host.turn().await;
            started.elapsed().as_millis()
        }));
        assert_eq!(starts.await, [0, 500, 1000, 1500]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_waited_for_unless_it_is_long() {
        let (host, started) = (host(), Instant::now());
        host.refused(Some(Duration::from_secs(20)));
        assert!(host.turn().await.is_ok());
        assert!(started.elapsed() >= Duration::from_secs(20));
        host.refused(Some(Duration::from_secs(3600)));
        assert!(host.turn().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_refuses_again_and_again_is_left_alone_for_longer_each_time() {
        let (host, started) = (host(), Instant::now());
        let mut pauses = Vec::new();
        while host.turn().await.is_ok() {
            pauses.push(started.elapsed().as_secs());
            host.refused(None);
            host.refused(None); // another request of the same time
        }
        assert_eq!(pauses, [0, 1, 3, 7, 15, 31]);
    }

    #[tokio::test]
    async fn a_host_has_so_many_requests_at_once_and_another_port_is_another_host() {
        let hosts = Hosts::new(limits(1));
        let of = |url: &str| hosts.of(&Url::parse(url).expect("absolute"));
        let (first, same, other) = (of("http://a.com/x"), of("http://A.com:80/y"), of("http://a.com:81/x"));
        let turn = first.turn().await;
        assert!(same.turns.try_acquire().is_err());
        assert!(other.turns.try_acquire().is_ok());
        drop(turn);
        assert!(same.turns.try_acquire().is_ok());
    }

    #[test]
    fn memory_does_not_grow_with_the_hosts_nor_with_their_rules() {
        let hosts = Hosts::new(limits(1));
        let kept = hosts.of(&Url::parse("http://kept.com").expect("absolute"));
        for number in 0..HOSTS_MAX + 5 {
            hosts.of(&Url::parse(&format!("http://host{number}.com")).expect("absolute"));
        }
        let all = || hosts.all.lock().expect("no panic").len();
        assert!(all() < 100);
        assert!(Arc::ptr_eq(&kept, &hosts.of(&Url::parse("http://kept.com").expect("absolute"))));

        let rules: String = (0..30_000).map(|number| format!("Disallow: /{number}\n")).collect();
        let robots = Robots::parse(format!("User-agent: *\n{rules}").as_bytes(), "x");
        for number in 0..1000 {
            hosts.of(&Url::parse(&format!("http://other{number}.com")).expect("absolute"));
            hosts.remember(&robots);
        }
        assert!(all() < 500, "{}", all());
    }
}
