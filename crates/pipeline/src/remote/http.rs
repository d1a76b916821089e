//! Any web server.

use futures::stream::StreamExt;
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Client, StatusCode};

use super::{Answer, Broken, reason};

pub(super) struct Page {
    client: Client,
    url: String,
}

impl Page {
    pub(super) fn new(url: &str, client: Client) -> Self {
        Self { client, url: url.into() }
    }

    pub(super) async fn ask(&self, from: u64) -> Result<Answer, Broken> {
        let mut request = self.client.get(&self.url);
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let response = request.send().await.map_err(|error| Broken::Passing(reason(&error)))?;
        let status = response.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(Broken::Passing(format!("the server answers {status}")));
        }
        if !status.is_success() {
            return Err(Broken::For(format!("the server answers {status}")));
        }
        if from > 0 {
            let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok()).unwrap_or_default();
            if status != StatusCode::PARTIAL_CONTENT || !range.starts_with(&format!("bytes {from}-")) {
                return Err(Broken::For("the connection broke, and the server cannot go on in the middle".into()));
            }
        }
        let length = response.content_length();
        let body = response.bytes_stream().map(|part| part.map_err(|error| reason(&error)));
        Ok(Answer { length, body: Box::pin(body) })
    }
}
