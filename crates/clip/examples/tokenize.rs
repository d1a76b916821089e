//! Prints the token ids of texts, for comparing with other tokenizers.
//!
//! ```text
//! cargo run --release -p clip --example tokenize -- TOKENIZER.json < texts.jsonl
//! ```

#![allow(clippy::print_stdout)] // it is here to print

use std::io::{BufRead, stdin};

use anyhow::{Context, Result};
use clip::Tokenizer;

const CONTEXT: usize = 77;

fn main() -> Result<()> {
    let tokenizer = Tokenizer::new(&fs_err::read(std::env::args().nth(1).context("a tokenizer.json")?)?, CONTEXT)?;
    for line in stdin().lock().lines() {
        let text: String = serde_json::from_str(&line?)?;
        println!("{}", serde_json::to_string(&tokenizer.encode(&text)?)?);
    }
    Ok(())
}
