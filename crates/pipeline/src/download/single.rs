//! Pictures that somebody names one by one, fetched with everything that `download` is careful about.

use dataset::{Result, Status};

use super::Config;
use super::client::Fetcher;
use super::window::Window;

/// Fetches single pictures. It is made and used within a runtime of tokio.
#[derive(Clone, Debug)]
pub struct Single(Fetcher);

impl Single {
    /// Sets up the client. What `config` says of shards means nothing here.
    pub fn new(config: &Config) -> Result<Self> {
        Fetcher::new(config).map(Self)
    }

    /// The bytes at an address, at most `config.image_bytes_max`; or the name of the failure and what people can make of
    /// it.
    pub async fn fetch(&self, url: &str) -> Result<Vec<u8>, String> {
        match self.0.fetch(url, 0, &Window::default()).await {
            (Status::Kept, fetched) => fetched.body.ok_or_else(|| "nothing came".into()),
            (status, fetched) => Err(format!("{}: {}", status.name(), fetched.message.unwrap_or_default())),
        }
    }
}
