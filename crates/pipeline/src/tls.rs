//! Encryption of connections.

use dataset::{Error, Result};

/// One provider of cryptography for the process, all Rust. It is written for processors of the last ten years.
pub(crate) fn install_crypto() -> Result<()> {
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
