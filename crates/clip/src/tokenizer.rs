//! Captions to token ids.

use tokenizers::{TruncationParams, tokenizer};

use crate::error::{Error, Result};

/// Longer texts are cut before they reach the tokenizer: 77 tokens never need more.
const TEXT_BYTES_MAX: usize = 1 << 14;

/// The tokenizer of a `tokenizer.json`, with the start token, the end token, and CLIP's truncation.
///
/// Follows Hugging Face's fast tokenizer: NFC, whitespace collapsed, lower case. OpenAI's own code also repairs
/// mojibake and HTML entities; captions of this project had that done when they were collected.
#[derive(Clone, Debug)]
pub struct Tokenizer(tokenizer::Tokenizer);

impl Tokenizer {
    /// `json` is the content of `tokenizer.json`; `context` the most tokens of a text, start and end included.
    pub fn new(json: &[u8], context: usize) -> Result<Self> {
        let mut inner = tokenizer::Tokenizer::from_bytes(json).map_err(Error::Tokenizer)?;
        inner.with_padding(None);
        let truncation = TruncationParams { max_length: context, ..TruncationParams::default() };
        inner.with_truncation(Some(truncation)).map_err(Error::Tokenizer)?;
        Ok(Self(inner))
    }

    /// The ids of `text`: the start token first, the end token last, never more than the context.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let text = &text[..text.floor_char_boundary(TEXT_BYTES_MAX)];
        let encoding = self.0.encode_fast(text, true).map_err(Error::Tokenizer)?;
        Ok(encoding.get_ids().to_vec())
    }
}
