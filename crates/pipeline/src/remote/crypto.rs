//! Signs what is asked of stores, with the cryptography that TLS has.

use graviola::hashing::hmac::Hmac;
use graviola::hashing::{Hash, HashContext, Sha256};
use graviola::signing::rsa::SigningKey;
use object_store::client::{CryptoProvider, DigestAlgorithm, DigestContext, HmacContext, Signer, SigningAlgorithm};
use object_store::{Error, Result};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

#[derive(Debug)]
pub(super) struct Crypto;

impl CryptoProvider for Crypto {
    fn digest(&self, _: DigestAlgorithm) -> Result<Box<dyn DigestContext>> {
        Ok(Box::new(Digest { context: Sha256::new(), output: Vec::new() }))
    }

    fn hmac(&self, _: DigestAlgorithm, secret: &[u8]) -> Result<Box<dyn HmacContext>> {
        Ok(Box::new(Digest { context: Hmac::<Sha256>::new(secret), output: Vec::new() }))
    }

    /// Google's keys of service accounts are RSA.
    fn sign(&self, _: SigningAlgorithm, pem: &[u8]) -> Result<Box<dyn Signer>> {
        let key = match PrivateKeyDer::from_pem_slice(pem).map_err(|error| wrong(error.to_string()))? {
            PrivateKeyDer::Pkcs1(der) => SigningKey::from_pkcs1_der(der.secret_pkcs1_der()),
            PrivateKeyDer::Pkcs8(der) => SigningKey::from_pkcs8_der(der.secret_pkcs8_der()),
            _ => return Err(wrong("no key of RSA".into())),
        };
        Ok(Box::new(Rsa(key.map_err(|error| wrong(format!("{error:?}")))?)))
    }
}

fn wrong(cause: String) -> Error {
    Error::Generic { store: "credentials", source: format!("the private key: {cause}").into() }
}

struct Rsa(SigningKey);

impl Signer for Rsa {
    fn sign(&self, text: &[u8]) -> Result<Vec<u8>> {
        let mut signature = vec![0; self.0.modulus_len_bytes()];
        let signed = self.0.sign_pkcs1_sha256(&mut signature, text).map_err(|error| wrong(format!("{error:?}")))?;
        Ok(signed.to_vec())
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

    fn finish(&mut self) -> Result<&[u8]> {
        self.output = self.context.clone().finish().as_ref().into();
        Ok(&self.output)
    }
}

impl HmacContext for Digest<Hmac<Sha256>> {
    fn update(&mut self, data: &[u8]) {
        self.context.update(data);
    }

    fn finish(&mut self) -> Result<&[u8]> {
        self.output = self.context.clone().finish().as_ref().into();
        Ok(&self.output)
    }
}
