//! Fetches one image: bounded in time, bytes and redirects, and never from a private address.

use std::error::Error as StdError;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use dataset::{Error, Failure, Reason, Result, Status};
use flate2::read::MultiGzDecoder;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Client, Response, StatusCode};
use robotxt::{AccessResult, Robots};
use tokio::sync::Semaphore;
use url::Url;

use super::dns::{GuardedResolver, NoAddress};
use super::guard::{Guard, PrivateAddress};
use super::hosts::{Host, Hosts, Limits};
use super::room::{Memory, Room};
use super::window::Window;
use super::{Config, USER_AGENT, robots};
use crate::address;

/// RFC 9309, section 2.3.1.2.
const ROBOTS_REDIRECTS_MAX: u32 = 5;
/// A day.
const DEADLINE_MAX_MS: u64 = 24 * 3600 * 1000;
/// Time for a connection: the name, TCP and TLS.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long an answer may be slow; half the deadline where that is less.
const GRACE: Duration = Duration::from_secs(5);
/// Headers of one answer. Their bytes are bounded by hyper: 400 KiB, and 16 KiB in HTTP/2.
const HEADERS_MAX: usize = 256;
/// Bytes that hyper reads of a body at once, at most (its `DEFAULT_MAX_BUFFER_SIZE`): they are in memory before they are seen.
const READ_AHEAD: u64 = 8192 + 4096 * 100;
/// A connection that nobody needs is kept for so long: it keeps what it reads into, too.
const IDLE: Duration = Duration::from_secs(2);
/// Bytes that a host may send ahead over HTTP/2.
const HTTP2_WINDOW: u32 = 256 << 10;
/// Where hosts can find out what asks them.
const PROJECT: &str = "https://github.com/laion400m/laion400m";

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
    /// Memory that the body has, until it is dropped.
    pub(super) room: Option<Room>,
}

impl Fetched {
    fn is_tried_again(&self) -> bool {
        self.attempts > 1
    }
}

/// Fetches URLs over one pool of connections.
#[derive(Clone, Debug)]
pub(super) struct Fetcher(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    config: Config,
    guard: Guard,
    hosts: Hosts,
    /// Requests under way at once, whatever the host.
    requests: Semaphore,
    memory: Memory,
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
        Self::guarded(config, Guard::new(config.allow_private))
    }

    fn guarded(config: &Config, guard: Guard) -> Result<Self> {
        let tls = crate::tls::config()?;
        if !(1..=DEADLINE_MAX_MS).contains(&config.timeout_ms) {
            return Err(Error::Invalid(format!("download: timeout_ms is 1 to {DEADLINE_MAX_MS}")));
        }
        let deadline = Duration::from_millis(config.timeout_ms);
        let connect = deadline.min(CONNECT_MAX);
        let interval = config.host_requests_per_second.map(|rate| Duration::try_from_secs_f64(1.0 / rate));
        let interval = interval.transpose().ok().filter(|interval| interval.is_none_or(|time| !time.is_zero()));
        let interval = interval.ok_or_else(|| Error::Invalid("download: no such rate of requests to a host".into()))?;
        let headers = HeaderMap::from_iter([
            // All are taken that can be decoded; a host that can choose shall not choose a new format.
            (ACCEPT, HeaderValue::from_static("image/*,*/*;q=0.8")),
            (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
        ]);
        let client = Client::builder()
            .user_agent(introduction(config)?)
            .default_headers(headers)
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none()) // followed here, so that every hop is checked
            // A proxy would resolve names and connect where nobody checks; no variable of the environment sets one.
            .no_proxy()
            .dns_resolver(GuardedResolver::new(&config.dns_servers, guard, connect * 4 / 5)?)
            .connect_timeout(connect)
            .http1_max_headers(HEADERS_MAX)
            .http2_initial_stream_window_size(HTTP2_WINDOW)
            .http2_initial_connection_window_size(HTTP2_WINDOW)
            .pool_max_idle_per_host(config.host_concurrency)
            .pool_idle_timeout(IDLE)
            .build()
            .map_err(|error| Error::Invalid(format!("set up the HTTP client: {error}")))?;
        let requests = Semaphore::new(config.concurrency.clamp(1, Semaphore::MAX_PERMITS));
        let hosts = Hosts::new(Limits { concurrency: config.host_concurrency, interval, deadline });
        Ok(Self(Arc::new(Inner { client, config: config.clone(), guard, hosts, requests, memory: Memory::new() })))
    }

    /// Fetches `url` for a row of a shard, again if the failure is one that passes.
    pub(super) async fn fetch(&self, url: &str, row: u64, window: &Window) -> (Status, Fetched) {
        let mut before: Option<(Status, Fetched)> = None;
        loop {
            let attempts = before.as_ref().map_or(0, |(_, fetched)| fetched.attempts);
            let mut fetched = Fetched { attempts, ..Fetched::default() };
            let (status, message) = match self.0.attempt(url, row, window, &mut fetched).await {
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
            fetched.room = None; // nothing of a body is left
            let passing = [Failure::Dns, Failure::Connect, Failure::ConnectionClosed, Failure::HttpServerError];
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

/// How the program introduces itself.
fn introduction(config: &Config) -> Result<HeaderValue> {
    let contact = config.contact.as_deref().or_else(|| (config.user_agent == USER_AGENT).then_some(PROJECT));
    let text = contact.map(|contact| format!("{} (+{contact})", config.user_agent));
    HeaderValue::from_str(text.as_deref().unwrap_or(&config.user_agent))
        .map_err(|_| Error::Invalid("download: user_agent and contact are one line of ASCII".into()))
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
    async fn attempt(&self, url: &str, row: u64, window: &Window, fetched: &mut Fetched) -> Result<Vec<u8>, End> {
        let mut url = parse(url)?;
        let mut deadline = Duration::from_millis(self.config.timeout_ms);
        let mut slowest: Option<(Arc<Host>, Duration)> = None;
        for hop in 0..=self.config.redirects_max {
            self.check(&url)?;
            let host = self.hosts.of(&url);
            let _turn = loop {
                window.pass(row).await;
                let turn = host.turn().await;
                let turn = turn.map_err(|cause| (Status::Failed(Failure::HostUnavailable), cause.to_owned()))?;
                // The turn is given back, for the row that all wait for may need it.
                if window.lets(row) {
                    break turn;
                }
            };
            let _request = self.requests.acquire().await.expect("the semaphore is never closed");
            fetched.attempts += i32::from(hop == 0);
            let patience = host.patience(fetched.is_tried_again());
            let started = Instant::now();
            let asked = async {
                if self.config.robots_txt && !self.robots(&host, &url).await?.is_url_allowed(&url) {
                    return Err((Status::Dropped(Reason::RobotsTxt), "robots.txt disallows it".into()));
                }
                self.ask(&url, &host, fetched).await
            };
            let answer = tokio::time::timeout(deadline.min(patience), asked).await;
            let answer =
                answer.unwrap_or_else(|_| Err((Status::Failed(Failure::Timeout), "the deadline passed".into())));
            let time = started.elapsed();
            self.note(&host, time, slowest.as_ref(), &answer, fetched);
            deadline = deadline.saturating_sub(time);
            match answer? {
                Answer::Body(body) => return Ok(body),
                Answer::Redirect(next) => url = next,
            }
            if slowest.as_ref().is_none_or(|(_, longest)| *longest < time) {
                slowest = Some((host.clone(), time));
            }
        }
        Err((Status::Failed(Failure::Redirect), format!("more than {} redirects", self.config.redirects_max)))
    }

    /// Remembers of the host how its request ended.
    fn note(
        &self,
        host: &Host,
        time: Duration,
        slowest: Option<&(Arc<Host>, Duration)>,
        answer: &Result<Answer, End>,
        fetched: &Fetched,
    ) {
        let again = fetched.is_tried_again();
        let silent = [Failure::Dns, Failure::Connect, Failure::ConnectionClosed, Failure::Timeout, Failure::TooSlow];
        let refusals = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].map(|status| status.as_u16());
        match answer {
            // The time of all hops is one, so who took most of it is to blame.
            Err((Status::Failed(Failure::Timeout), _)) => match slowest {
                Some((other, longest)) if *longest > time => other.failed(*longest, again),
                _ => host.failed(time, again),
            },
            Err((Status::Failed(failure), _)) if silent.contains(failure) => host.failed(time, again),
            // Nothing was asked.
            Err((Status::Dropped(Reason::RobotsTxt | Reason::PrivateAddress), _)) => {}
            // It has been told already.
            Err(_) if fetched.http_status.is_some_and(|status| refusals.contains(&status)) => {}
            // Whether a slow redirect was the end of a slow answer is not known yet.
            Ok(Answer::Redirect(_)) if time > Duration::from_millis(self.config.timeout_ms) / 4 => {}
            _ => host.answered(time),
        }
    }

    async fn ask(&self, url: &Url, host: &Host, fetched: &mut Fetched) -> Result<Answer, End> {
        let answer = self.client.get(url.clone()).send().await.map_err(|error| classify(&error))?;
        let status = answer.status();
        fetched.http_status = Some(status.as_u16());
        fetched.final_url = Some(url.to_string());
        if is_redirect(status) {
            return target(url, answer.headers()).map(Answer::Redirect);
        }
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            host.refused(retry_after(answer.headers()));
        }
        fetched.content_type = text(answer.headers(), CONTENT_TYPE.as_str());
        let room = fetched.room.insert(self.memory.room());
        self.receive(answer, room).await.map(Answer::Body)
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
            let rules = self.body(&mut answer, robotxt::BYTE_LIMIT as u64, &mut self.memory.room()).await?;
            let robots = Robots::parse(&rules, token);
            self.hosts.remember(&robots);
            return Ok(robots);
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
        if self.guard.allows(address) {
            Ok(())
        } else {
            Err((Status::Dropped(Reason::PrivateAddress), PrivateAddress.to_string()))
        }
    }

    async fn receive(&self, mut answer: Response, room: &mut Room) -> Result<Vec<u8>, End> {
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
        // Nobody asked for it, but some do it. What is no gzip is the picture itself.
        let encoding = text(answer.headers(), CONTENT_ENCODING.as_str()).unwrap_or_default().to_ascii_lowercase();
        let mut body = self.body(&mut answer, limit, room).await?;
        let packed = matches!(encoding.trim(), "gzip" | "x-gzip") && body.starts_with(&[0x1F, 0x8B]);
        if packed && body.len() as u64 <= limit {
            room.beyond().await;
            let unpacked = tokio::task::spawn_blocking(move || unpack(&body, limit)).await;
            let damaged = |error: String| (Status::Failed(Failure::ImageDamaged), format!("gzip: {error}"));
            body = unpacked.map_err(|error| damaged(error.to_string()))?.map_err(|error| damaged(error.to_string()))?;
        }
        if body.len() as u64 > limit { Err(too_many()) } else { Ok(body) }
    }

    /// The body, or its beginning, which is longer than `limit`; as long as it comes fast enough.
    async fn body(&self, answer: &mut Response, limit: u64, room: &mut Room) -> Result<Vec<u8>, End> {
        let grace = GRACE.min(Duration::from_millis(self.config.timeout_ms) / 2);
        let rate = self.config.bytes_per_second_min;
        let length = answer.content_length().unwrap_or(u64::MAX);
        let first = length.min(READ_AHEAD) as usize;
        room.grow_to(first).await;
        let mut body = Vec::with_capacity(first);
        let started = tokio::time::Instant::now(); // that we have no memory is not the host's slowness
        while body.len() as u64 <= limit {
            let bytes = body.len() as u64;
            room.grow_to((bytes + READ_AHEAD).min(length) as usize).await;
            // When what has come so far is too little.
            let due = bytes
                .saturating_mul(1000)
                .checked_div(rate)
                .map(|time| started + grace.max(Duration::from_millis(time)));
            let chunk = match due {
                Some(due) => tokio::time::timeout_at(due, answer.chunk()).await,
                None => Ok(answer.chunk().await),
            };
            let slow = |_| (Status::Failed(Failure::TooSlow), format!("less than {rate} bytes a second"));
            let Some(chunk) = chunk.map_err(slow)?.map_err(|error| classify(&error))? else { break };
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// What was packed, or its beginning, which is longer than `limit`.
fn unpack(packed: &[u8], limit: u64) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    MultiGzDecoder::new(packed).take(limit.saturating_add(1)).read_to_end(&mut body)?;
    Ok(body)
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
    let parsed = if url.starts_with("//") { address::parse(&format!("https:{url}")) } else { address::parse(url) };
    parsed.map_err(|error| (Status::Dropped(Reason::UrlInvalid), error.to_string()))
}

/// Where a redirect leads.
fn target(url: &Url, headers: &HeaderMap) -> Result<Url, End> {
    let redirect = |cause: String| (Status::Failed(Failure::Redirect), cause);
    let location = headers.get(LOCATION).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    let location = location.ok_or_else(|| redirect("a redirect without Location".into()))?;
    address::join(url, location).map_err(|error| redirect(format!("redirect to {location:?}: {error}")))
}

/// Seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = text(headers, RETRY_AFTER.as_str())?;
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    httpdate::parse_http_date(value).ok()?.duration_since(SystemTime::now()).ok()
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
        } else if inner.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            status = Some(Status::Failed(Failure::HttpInvalid));
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::net::{IpAddr, Ipv4Addr, TcpListener};
    use std::sync::Mutex;

    /// On Linux all of 127.0.0.0/8 is this machine, so that one server can stand for the public internet.
    const PUBLIC: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 5);

    /// Answers every request with a redirect to what follows the `?`, and notes it.
    fn server(address: Ipv4Addr) -> (u16, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind((address, 0)).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let noted = asked.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut lines =
                    BufReader::new(stream.try_clone().expect("a handle")).lines().map_while(|line| line.ok());
                let first = lines.next().unwrap_or_default();
                lines.find(String::is_empty);
                let target = first.split(' ').nth(1).and_then(|path| path.split_once('?')).map(|(_, target)| target);
                let location = target.unwrap_or("http://[").to_owned();
                noted.lock().expect("no panic").push(first);
                let head = format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nConnection: close\r\n");
                let _ = stream.write_all(format!("{head}Content-Length: 0\r\n\r\n").as_bytes());
            }
        });
        (port, asked)
    }

    #[tokio::test]
    async fn no_redirect_leads_into_a_private_network() {
        let ((public, asked), (private, secrets)) = (server(PUBLIC), server(Ipv4Addr::LOCALHOST));
        let config = Config { robots_txt: false, retries: 0, ..Config::laion400m() };
        let exempt = Some(IpAddr::from(PUBLIC));
        let fetcher = Fetcher::guarded(&config, Guard { exempt, ..Guard::new(false) }).expect("set up");
        let targets = [
            format!("http://127.0.0.1:{private}/secret"),
            format!("http://localhost:{private}/secret"),
            format!("http://secret.localhost:{private}/secret"),
            format!("http://2130706433:{private}/secret"),
            format!("http://0x7f.1:{private}/secret"),
            format!("http://0177.0.0.1:{private}/secret"),
            format!("http://[::ffff:127.0.0.1]:{private}/secret"),
            format!("http://{PUBLIC}:{public}@127.0.0.1:{private}/secret"),
            format!("//127.0.0.1:{private}/secret"),
            format!("http://{PUBLIC}:{public}/hop?http://127.0.0.1:{private}/secret"),
            "http://169.254.169.254/latest/meta-data/".to_owned(),
        ];
        for target in &targets {
            let (status, fetched) =
                fetcher.fetch(&format!("http://{PUBLIC}:{public}/?{target}"), 0, &Window::default()).await;
            assert_eq!(status, Status::Dropped(Reason::PrivateAddress), "{target}: {fetched:?}");
        }
        for target in ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:image/png;base64,AA=="] {
            let (status, _) =
                fetcher.fetch(&format!("http://{PUBLIC}:{public}/?{target}"), 0, &Window::default()).await;
            assert_eq!(status, Status::Dropped(Reason::UrlScheme), "{target}");
        }
        assert_eq!(asked.lock().expect("no panic").len(), targets.len() + 1 + 3);
        assert!(secrets.lock().expect("no panic").is_empty(), "{secrets:?}");
    }
}
