//! Encryption of connections.

use std::sync::OnceLock;

use dataset::{Error, Result};
use rustls::ClientConfig;
use rustls_platform_verifier::ConfigVerifierExt;

/// How to connect, trusting whom this machine trusts. Its certificates are read once: that takes as long as a thousand pairs,
/// and every archive and object is read by a client of its own.
pub(crate) fn config() -> Result<ClientConfig> {
    static CONFIG: OnceLock<ClientConfig> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config.clone());
    }
    install_crypto()?;
    let config = ClientConfig::with_platform_verifier();
    let mut config = config.map_err(|error| Error::Invalid(format!("set up the HTTP client: {error}")))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(CONFIG.get_or_init(|| config).clone())
}

/// One provider of cryptography for the process, all Rust. It is written for processors of the last ten years.
fn install_crypto() -> Result<()> {
    #[cfg(target_arch = "x86_64")]
    {
        let found = std::arch::is_x86_feature_detected!("aes")
            && std::arch::is_x86_feature_detected!("ssse3")
            && std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("adx")
            && std::arch::is_x86_feature_detected!("bmi2")
            && std::arch::is_x86_feature_detected!("pclmulqdq");
        if !found {
            let needs = "TLS needs a processor with AES, AVX2, ADX, BMI2 and PCLMULQDQ (x86-64 since 2015)";
            return Err(Error::Invalid(format!("set up the HTTP client: {needs}")));
        }
    }
    let _ = rustls_graviola::default_provider().install_default(); // an error means that it is installed
    Ok(())
}
