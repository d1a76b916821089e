//! Fetches one image: bounded in time, bytes and redirects, and never from a private address.

use std::error::Error as StdError;
use std::time::Duration;

use dataset::{Error, Failure, Reason, Result, Status};
use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::{Client, StatusCode};
use url::{Host, Url};

use super::Config;
use super::guard::{GuardedResolver, NoAddress, PrivateAddress, is_public};
use super::robots;

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
pub(super) struct Fetcher {
    client: Client,
    config: Config,
}

impl Fetcher {
    pub(super) fn new(config: &Config) -> Result<Self> {
        crate::tls::install_crypto()?;
        let client = Client::builder()
            .user_agent(&config.user_agent)
            .redirect(reqwest::redirect::Policy::none()) // followed here, so that every hop is checked
            .dns_resolver(GuardedResolver { allow_private: config.allow_private })
            .connect_timeout(Duration::from_millis(config.timeout_ms))
            .pool_max_idle_per_host(4)
            .build()
            .map_err(|error| Error::Invalid(format!("set up the HTTP client: {error}")))?;
        Ok(Self { client, config: config.clone() })
    }

    /// Fetches `url`, again if the failure is one that passes.
    pub(super) async fn fetch(&self, url: &str) -> (Status, Fetched) {
        for attempt in 1.. {
            let mut fetched = Fetched { attempts: attempt, ..Fetched::default() };
            let deadline = Duration::from_millis(self.config.timeout_ms);
            let result = match tokio::time::timeout(deadline, self.attempt(url, &mut fetched)).await {
                Ok(result) => result,
                Err(_) => Err((Status::Failed(Failure::Timeout), "the deadline passed".into())),
            };
            let (status, message) = match result {
                Ok(body) => {
                    fetched.body = Some(body);
                    return (Status::Kept, fetched);
                }
                Err(end) => end,
            };
            fetched.message = Some(message);
            let passing = [Failure::Connect, Failure::ConnectionClosed, Failure::HttpServerError];
            let again = matches!(status, Status::Failed(failure) if passing.contains(&failure));
            if !again || attempt > self.config.retries as i32 {
                return (status, fetched);
            }
        }
        unreachable!("attempts are counted from 1 without end")
    }

    async fn attempt(&self, url: &str, fetched: &mut Fetched) -> Result<Vec<u8>, (Status, String)> {
        let redirect = |cause: String| (Status::Failed(Failure::Redirect), cause);
        let mut url = Url::parse(url).map_err(|error| (Status::Dropped(Reason::UrlInvalid), error.to_string()))?;
        for _ in 0..=self.config.redirects_max {
            self.check(&url)?;
            let answer = self.client.get(url.clone()).send().await.map_err(|error| classify(&error))?;
            fetched.http_status = Some(answer.status().as_u16());
            fetched.final_url = Some(url.to_string());
            if is_redirect(answer.status()) {
                let location =
                    answer.headers().get(LOCATION).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
                let location = location.ok_or_else(|| redirect("a redirect without Location".into()))?;
                url = url.join(location).map_err(|error| redirect(format!("redirect to {location:?}: {error}")))?;
                continue;
            }
            fetched.content_type = text(answer.headers(), CONTENT_TYPE.as_str());
            return self.receive(answer).await;
        }
        Err(redirect(format!("more than {} redirects", self.config.redirects_max)))
    }

    /// Names are checked by the resolver; an address that is written out asks no resolver.
    fn check(&self, url: &Url) -> Result<(), (Status, String)> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err((Status::Dropped(Reason::UrlScheme), format!("scheme {:?}", url.scheme())));
        }
        let address = match url.host() {
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
            Some(Host::Domain(_)) => return Ok(()),
            None => return Err((Status::Dropped(Reason::UrlInvalid), "no host".into())),
        };
        if self.config.allow_private || is_public(address) {
            Ok(())
        } else {
            Err((Status::Dropped(Reason::PrivateAddress), PrivateAddress.to_string()))
        }
    }

    async fn receive(&self, mut answer: reqwest::Response) -> Result<Vec<u8>, (Status, String)> {
        let status = answer.status();
        if !status.is_success() {
            let failure = match status.as_u16() {
                400..500 => Failure::HttpClientError,
                500..600 => Failure::HttpServerError,
                _ => Failure::HttpStatus,
            };
            return Err((Status::Failed(failure), format!("HTTP {status}")));
        }
        if let Some(directive) = robots::refusal(answer.headers(), &self.config.robots_token) {
            return Err((Status::Dropped(Reason::RobotsTag), format!("X-Robots-Tag: {directive}")));
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
