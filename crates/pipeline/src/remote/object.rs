//! Objects of stores: where they are, and as a stream. Who asks is said by the variables of the environment that are usual for
//! each cloud: `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, …, `GOOGLE_SERVICE_ACCOUNT`, …, `AZURE_STORAGE_ACCOUNT_NAME`, ….

use std::io;
use std::sync::Arc;

use futures::stream::StreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::{ClientOptions, HttpClient, HttpConnector};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, ObjectStore, RetryConfig};

use super::crypto::Crypto;
use super::{Answer, Broken, client, reason};

/// An address in its parts: `s3`, the bucket, the key.
pub(super) fn split(address: &str) -> io::Result<(&str, &str, &str)> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "an address in a store is s3://bucket/key");
    let (scheme, rest) = address.split_once("://").ok_or_else(wrong)?;
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() { Err(wrong()) } else { Ok((scheme, bucket, key)) }
}

/// The key as the store has it.
pub(super) fn key(key: &str) -> io::Result<Path> {
    Path::parse(key).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// Opens the store that has the bucket of an address.
pub(super) fn store(scheme: &str, bucket: &str, retry: RetryConfig) -> io::Result<Arc<dyn ObjectStore>> {
    macro_rules! opened {
        ($builder:expr) => {
            $builder.with_http_connector(Connector).with_retry(retry).build().map(|store| Arc::new(store) as _)
        };
    }
    let crypto = Arc::new(Crypto);
    let store: Result<Arc<dyn ObjectStore>, Error> = match scheme {
        // Hadoop calls it s3a.
        "s3" | "s3a" => {
            opened!(AmazonS3Builder::from_env().with_bucket_name(bucket).with_crypto_provider(crypto))
        }
        "gs" => opened!(GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket).with_crypto_provider(crypto)),
        "az" => opened!(MicrosoftAzureBuilder::from_env().with_container_name(bucket).with_crypto_provider(crypto)),
        _ => opened!(HttpBuilder::new().with_url(format!("{scheme}://{bucket}"))),
    };
    store.map_err(|error| io::Error::other(reason(&error)))
}

/// Whether nobody says who asks: a cloud's machine would ask there, and elsewhere nobody answers.
pub(super) fn lacks_credentials(error: &Error) -> bool {
    let cause = reason(error);
    cause.contains("169.254.169.254") || cause.contains("metadata.google.internal")
}

/// What an error means to somebody who reads it.
pub(super) fn cause(error: &Error) -> String {
    if lacks_credentials(error) {
        let what = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public bucket; \
                    GOOGLE_APPLICATION_CREDENTIALS; or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY";
        return format!("no credentials for the store: {what}");
    }
    reason(error)
}

/// An object that is read from front to back.
pub(super) struct Object {
    store: Arc<dyn ObjectStore>,
    key: Path,
    /// Its version, once it has been seen: the parts of a file must be of one.
    version: Option<String>,
}

impl Object {
    pub(super) fn new(address: &str) -> io::Result<Self> {
        let (scheme, bucket, path) = split(address)?;
        // Trying again is done in one place for all streams.
        let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        Ok(Self { store: store(scheme, bucket, retry)?, key: key(path)?, version: None })
    }

    pub(super) async fn ask(&mut self, from: u64) -> Result<Answer, Broken> {
        let range = (from > 0).then_some(GetRange::Offset(from));
        let options = GetOptions { range, if_match: self.version.clone(), ..GetOptions::default() };
        let found = self.store.get_opts(&self.key, options).await.map_err(|error| match error {
            Error::Precondition { .. } => Broken::For("the object has changed while it was read".into()),
            Error::Generic { .. } if !lacks_credentials(&error) => Broken::Passing(cause(&error)),
            _ => Broken::For(cause(&error)),
        })?;
        self.version = self.version.take().or(found.meta.e_tag.clone());
        let length = Some(found.meta.size);
        let body = found.into_stream().map(|part| part.map_err(|error| reason(&error)));
        Ok(Answer { length, body: Box::pin(body) })
    }
}

/// The same HTTP client as for web servers.
#[derive(Debug)]
struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let source = |error: io::Error| Error::Generic { store: "store", source: error.into() };
        client().map(HttpClient::new).map_err(source)
    }
}
