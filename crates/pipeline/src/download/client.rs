//! Fetches one image: bounded in time, bytes and redirects, and never from a private address.

use std::error::Error as StdError;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use dataset::{Error, Failure, Reason, Result, Status};
use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Client, StatusCode};
use robotxt::{AccessResult, Robots};
use tokio::sync::Semaphore;
use url::Url;

use super::Config;
use super::guard::{GuardedResolver, NoAddress, PrivateAddress, is_public};
use super::hosts::{Host, Hosts};
use super::robots;

/// RFC 9309, section 2.3.1.2.
const ROBOTS_REDIRECTS_MAX: u32 = 5;

/// What became of a URL.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    /// The body; `None` where the status is not `Kept`.
    pub(super) body: Option<Vec<u8>>,
    /// What went wrong, for people.
    pub(super) message: Option<String>,
    pub(super) http_status: Option<u16>,
    pub(super) final_url: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) attempts: i32,
}

/// Fetches URLs over one pool of connections.
#[derive(Clone, Debug)]
pub(super) struct Fetcher(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    config: Config,
    hosts: Hosts,
    /// Requests under way at once, whatever the host.
    requests: Semaphore,
}

/// What became of a row, for the statistics and for people.
type End = (Status, String);

/// What a server says to one request.
enum Answer {
    Body(Vec<u8>),
    Redirect(Url),
}

impl Fetcher {
    pub(super) fn new(config: &Config) -> Result<Self> {
        crate::tls::install_crypto()?;
        let client = Client::builder()
            .user_agent(&config.user_agent)
            .redirect(reqwest::redirect::Policy::none()) // followed here, so that every hop is checked
            .dns_resolver(GuardedResolver { allow_private: config.allow_private })
            .connect_timeout(Duration::from_millis(config.timeout_ms))
            .pool_max_idle_per_host(config.host_concurrency)
            .build()
            .map_err(|error| Error::Invalid(format!("set up the HTTP client: {error}")))?;
        let requests = Semaphore::new(config.concurrency.clamp(1, Semaphore::MAX_PERMITS));
        let hosts = Hosts::new(config.host_concurrency);
        Ok(Self(Arc::new(Inner { client, config: config.clone(), hosts, requests })))
    }

    /// Fetches `url`, again if the failure is one that passes.
    pub(super) async fn fetch(&self, url: &str) -> (Status, Fetched) {
        let mut before: Option<(Status, Fetched)> = None;
        loop {
            let attempts = before.as_ref().map_or(0, |(_, fetched)| fetched.attempts);
            let mut fetched = Fetched { attempts, ..Fetched::default() };
            let (status, message) = match self.0.attempt(url, &mut fetched).await {
                Ok(body) => {
                    fetched.body = Some(body);
                    return (Status::Kept, fetched);
                }
                Err(end) => end,
            };
            // Where the host is left alone by now, what it said before is the end.
            if let Some(before) = before.take_if(|_| fetched.attempts == attempts) {
                return before;
            }
            fetched.message = Some(message);
            let passing = [Failure::Connect, Failure::ConnectionClosed, Failure::HttpServerError];
            let again = matches!(status, Status::Failed(failure) if passing.contains(&failure))
                || fetched.http_status == Some(StatusCode::TOO_MANY_REQUESTS.as_u16());
            if !again || fetched.attempts > self.0.config.retries as i32 {
                return (status, fetched);
            }
            tokio::time::sleep(back_off(url, fetched.attempts as u32)).await;
            before = Some((status, fetched));
        }
    }
}

/// Twice as long after every attempt, and not the same for all who failed together.
fn back_off(url: &str, attempts: u32) -> Duration {
    let mut hash = DefaultHasher::new();
    (url, attempts).hash(&mut hash);
    let spread = 0.5 + (hash.finish() % 1024) as f32 / 1024.0;
    Duration::from_millis(250 << (attempts - 1).min(6)).mul_f32(spread)
}

impl Inner {
    /// One attempt, all its redirects included. The deadline is for asking, not for waiting to ask.
    async fn attempt(&self, url: &str, fetched: &mut Fetched) -> Result<Vec<u8>, End> {
        let mut url = parse(url)?;
        let mut deadline = Duration::from_millis(self.config.timeout_ms);
        for hop in 0..=self.config.redirects_max {
            self.check(&url)?;
            let host = self.hosts.of(&url);
            let Some(_turn) = host.turn().await else {
                return Err((Status::Failed(Failure::HostUnavailable), "the host is left alone for now".into()));
            };
            let _request = self.requests.acquire().await.expect("the semaphore is never closed");
            fetched.attempts += i32::from(hop == 0);
            let started = Instant::now();
            let asked = async {
                if self.config.robots_txt && !self.robots(&host, &url).await?.is_url_allowed(&url) {
                    return Err((Status::Dropped(Reason::RobotsTxt), "robots.txt disallows it".into()));
                }
                self.ask(&url, &host, fetched).await
            };
            let answer = tokio::time::timeout(deadline, asked).await;
            let answer =
                answer.unwrap_or_else(|_| Err((Status::Failed(Failure::Timeout), "the deadline passed".into())));
            let silent = [Failure::Dns, Failure::Connect, Failure::ConnectionClosed, Failure::Timeout];
            match &answer {
                Err((Status::Failed(failure), _)) if silent.contains(failure) => host.failed(),
                _ => host.answered(),
            }
            deadline = deadline.saturating_sub(started.elapsed());
            match answer? {
                Answer::Body(body) => return Ok(body),
                Answer::Redirect(next) => url = next,
            }
        }
        Err((Status::Failed(Failure::Redirect), format!("more than {} redirects", self.config.redirects_max)))
    }

    async fn ask(&self, url: &Url, host: &Host, fetched: &mut Fetched) -> Result<Answer, End> {
        let answer = self.client.get(url.clone()).send().await.map_err(|error| classify(&error))?;
        let status = answer.status();
        fetched.http_status = Some(status.as_u16());
        fetched.final_url = Some(url.to_string());
        if is_redirect(status) {
            return target(url, answer.headers()).map(Answer::Redirect);
        }
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
            && let Some(time) = retry_after(answer.headers())
        {
            host.pause(time);
        }
        fetched.content_type = text(answer.headers(), CONTENT_TYPE.as_str());
        self.receive(answer).await.map(Answer::Body)
    }

    /// What the host's robots.txt says, which is read once (RFC 9309, section 2.3): a client error means that there is
    /// none; without an answer nothing may be asked for.
    async fn robots<'a>(&self, host: &'a Host, url: &Url) -> Result<&'a Robots, End> {
        let about = |(status, message): End| (status, format!("robots.txt: {message}"));
        host.robots.get_or_try_init(|| async { self.read_robots(url).await.map_err(about) }).await
    }

    async fn read_robots(&self, url: &Url) -> Result<Robots, End> {
        let mut url =
            robotxt::robots_url(url).map_err(|error| (Status::Dropped(Reason::UrlInvalid), error.to_string()))?;
        let token = self.config.robots_token.as_str();
        for _ in 0..=ROBOTS_REDIRECTS_MAX {
            self.check(&url)?;
            let mut answer = self.client.get(url.clone()).send().await.map_err(|error| classify(&error))?;
            let status = answer.status();
            if is_redirect(status) {
                match target(&url, answer.headers()) {
                    Ok(next) => url = next,
                    Err(_) => return Ok(Robots::from_access(AccessResult::Unavailable, token)),
                }
                continue;
            }
            if status.is_server_error() {
                return Err((Status::Failed(Failure::HttpServerError), format!("HTTP {status}")));
            }
            if !status.is_success() {
                return Ok(Robots::from_access(AccessResult::Unavailable, token));
            }
            let mut rules = Vec::new();
            while rules.len() <= robotxt::BYTE_LIMIT
                && let Some(part) = answer.chunk().await.map_err(|error| classify(&error))?
            {
                rules.extend_from_slice(&part);
            }
            return Ok(Robots::parse(&rules, token));
        }
        Ok(Robots::from_access(AccessResult::TooManyRedirects, token))
    }

    /// Names are checked by the resolver; an address that is written out asks no resolver.
    fn check(&self, url: &Url) -> Result<(), End> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err((Status::Dropped(Reason::UrlScheme), format!("scheme {:?}", url.scheme())));
        }
        let address = match url.host() {
            Some(url::Host::Ipv4(address)) => address.into(),
            Some(url::Host::Ipv6(address)) => address.into(),
            Some(url::Host::Domain(_)) => return Ok(()),
            None => return Err((Status::Dropped(Reason::UrlInvalid), "no host".into())),
        };
        if self.config.allow_private || is_public(address) {
            Ok(())
        } else {
            Err((Status::Dropped(Reason::PrivateAddress), PrivateAddress.to_string()))
        }
    }

    async fn receive(&self, mut answer: reqwest::Response) -> Result<Vec<u8>, End> {
        let status = answer.status();
        if !status.is_success() {
            let failure = match status.as_u16() {
                400..500 => Failure::HttpClientError,
                500..600 => Failure::HttpServerError,
                _ => Failure::HttpStatus,
            };
            return Err((Status::Failed(failure), format!("HTTP {status}")));
        }
        if self.config.robots_tag
            && let Some(directive) = robots::refusal(answer.headers(), &self.config.robots_token)
        {
            return Err((Status::Dropped(Reason::RobotsTag), format!("X-Robots-Tag: {directive}")));
        }
        // W3C's TDM Reservation Protocol, section 6.1: 1 reserves the rights of text and data mining.
        if self.config.tdm_reservation
            && text(answer.headers(), "tdm-reservation").is_some_and(|value| value.trim() == "1")
        {
            return Err((Status::Dropped(Reason::TdmReservation), "TDM-Reservation: 1".into()));
        }
        let limit = self.config.image_bytes_max;
        let too_many = || (Status::Failed(Failure::TooManyBytes), format!("more than {limit} bytes"));
        if answer.content_length().is_some_and(|length| length > limit) {
            return Err(too_many());
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| classify(&error))? {
            if (body.len() + chunk.len()) as u64 > limit {
                return Err(too_many());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The address that is meant: white space goes from its ends, what is no ASCII is escaped, and without a scheme it is https.
pub(super) fn parse(url: &str) -> Result<Url, End> {
    let url = url.trim();
    if url.is_empty() {
        return Err((Status::Dropped(Reason::NoUrl), "no URL".into()));
    }
    let parsed = if url.starts_with("//") { Url::parse(&format!("https:{url}")) } else { Url::parse(url) };
    parsed.map_err(|error| (Status::Dropped(Reason::UrlInvalid), error.to_string()))
}

/// Where a redirect leads.
fn target(url: &Url, headers: &HeaderMap) -> Result<Url, End> {
    let redirect = |cause: String| (Status::Failed(Failure::Redirect), cause);
    let location = headers.get(LOCATION).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    let location = location.ok_or_else(|| redirect("a redirect without Location".into()))?;
    url.join(location).map_err(|error| redirect(format!("redirect to {location:?}: {error}")))
}

/// Seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = text(headers, RETRY_AFTER.as_str())?;
    let seconds = value.trim().parse().ok().map(Duration::from_secs);
    seconds.or_else(|| httpdate::parse_http_date(&value).ok()?.duration_since(SystemTime::now()).ok())
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// The named failure of a client's error, told by its causes.
fn classify(error: &reqwest::Error) -> (Status, String) {
    let mut message = error.to_string();
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    let mut status = None;
    while let Some(inner) = cause {
        if inner.is::<PrivateAddress>() {
            status = Some(Status::Dropped(Reason::PrivateAddress));
        } else if inner.is::<NoAddress>() {
            status = Some(Status::Failed(Failure::Dns));
        }
        message = inner.to_string();
        cause = inner.source();
    }
    let status = status.unwrap_or(Status::Failed(match () {
        () if error.is_timeout() => Failure::Timeout,
        () if error.is_connect() => Failure::Connect,
        () => Failure::ConnectionClosed,
    }));
    (status, message)
}
