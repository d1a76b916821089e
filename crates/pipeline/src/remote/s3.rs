//! Amazon S3, and what speaks its protocol. Where it is and who asks is said by the usual variables of the environment:
//! `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`, `AWS_SKIP_SIGNATURE`, …

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use futures::stream::StreamExt;
use graviola::hashing::hmac::Hmac;
use graviola::hashing::{Hash, HashContext, Sha256};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{
    ClientOptions, CryptoProvider, DigestAlgorithm, DigestContext, HmacContext, HttpClient, HttpConnector, Signer,
    SigningAlgorithm,
};
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, ObjectStore, RetryConfig};

use super::{Answer, Broken, client, reason};
use crate::build::Pattern;

pub(super) const SCHEME: &str = "s3://";

pub(super) struct Object {
    store: AmazonS3,
    path: Path,
    /// Its version, once it has been seen: the parts of a file must be of one.
    version: Option<String>,
}

impl Object {
    pub(super) fn new(address: &str) -> io::Result<Self> {
        let (bucket, path) = split(address)?;
        Ok(Self { store: store(bucket)?, path: Path::parse(path).map_err(io::Error::other)?, version: None })
    }

    pub(super) async fn ask(&mut self, from: u64) -> Result<Answer, Broken> {
        let range = (from > 0).then_some(GetRange::Offset(from));
        let options = GetOptions { range, if_match: self.version.clone(), ..GetOptions::default() };
        let found = self.store.get_opts(&self.path, options).await.map_err(broken)?;
        self.version = self.version.take().or(found.meta.e_tag.clone());
        let length = Some(found.meta.size);
        let body = found.into_stream().map(|part| part.map_err(|error| reason(&error)));
        Ok(Answer { length, body: Box::pin(body) })
    }
}

/// The objects that an address with a star means, in order.
pub(super) async fn expand(address: &str) -> io::Result<Vec<PathBuf>> {
    let (bucket, path) = split(address)?;
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let pattern = Pattern::new(name).ok_or_else(|| io::Error::other("a star may stand in the last component only"))?;
    let folder = Path::parse(folder).map_err(io::Error::other)?;
    let mut objects = store(bucket)?.list_with_delimiter(Some(&folder)).await.map_err(|error| match broken(error) {
        Broken::Passing(cause) | Broken::For(cause) => io::Error::other(cause),
    })?;
    objects.objects.retain(|object| object.location.filename().is_some_and(|name| pattern.matches(name)));
    let mut found: Vec<_> =
        objects.objects.iter().map(|object| PathBuf::from(format!("{SCHEME}{bucket}/{}", object.location))).collect();
    found.sort();
    Ok(found)
}

fn split(address: &str) -> io::Result<(&str, &str)> {
    let parts = address.strip_prefix(SCHEME).and_then(|rest| rest.split_once('/'));
    parts
        .filter(|(bucket, path)| !bucket.is_empty() && !path.is_empty())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "an address in S3 is s3://bucket/key"))
}

fn store(bucket: &str) -> io::Result<AmazonS3> {
    AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_http_connector(Connector)
        .with_crypto_provider(Arc::new(Crypto))
        // Trying again is done in one place for all servers.
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
        .build()
        .map_err(|error| io::Error::other(reason(&error)))
}

fn broken(error: Error) -> Broken {
    let cause = reason(&error);
    // Where a cloud's machine asks who it is; elsewhere nobody answers.
    if cause.contains("169.254.169.254") {
        let what = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public bucket";
        return Broken::For(format!("no credentials for S3: {what}"));
    }
    match error {
        Error::Generic { .. } => Broken::Passing(cause),
        Error::Precondition { .. } => Broken::For("the object has changed while it was read".into()),
        _ => Broken::For(cause),
    }
}

/// The same HTTP client as for web servers.
#[derive(Debug)]
struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let source = |error: io::Error| Error::Generic { store: "S3", source: error.into() };
        client().map(HttpClient::new).map_err(source)
    }
}

/// Signs requests with the cryptography that TLS has.
#[derive(Debug)]
struct Crypto;

impl CryptoProvider for Crypto {
    fn digest(&self, _: DigestAlgorithm) -> object_store::Result<Box<dyn DigestContext>> {
        Ok(Box::new(Digest { context: Sha256::new(), output: Vec::new() }))
    }

    fn hmac(&self, _: DigestAlgorithm, secret: &[u8]) -> object_store::Result<Box<dyn HmacContext>> {
        Ok(Box::new(Digest { context: Hmac::<Sha256>::new(secret), output: Vec::new() }))
    }

    fn sign(&self, _: SigningAlgorithm, _: &[u8]) -> object_store::Result<Box<dyn Signer>> {
        Err(Error::NotSupported { source: "S3 has no use for RSA".into() })
    }
}

/// A digest and what it has become.
struct Digest<C> {
    context: C,
    output: Vec<u8>,
}

impl<C: HashContext + Send> DigestContext for Digest<C> {
    fn update(&mut self, data: &[u8]) {
        self.context.update(data);
    }

    fn finish(&mut self) -> object_store::Result<&[u8]> {
        self.output = self.context.clone().finish().as_ref().into();
        Ok(&self.output)
    }
}

impl HmacContext for Digest<Hmac<Sha256>> {
    fn update(&mut self, data: &[u8]) {
        self.context.update(data);
    }

    fn finish(&mut self) -> object_store::Result<&[u8]> {
        self.output = self.context.clone().finish().as_ref().into();
        Ok(&self.output)
    }
}
