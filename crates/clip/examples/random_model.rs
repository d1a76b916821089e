//! Writes a CLIP of random weights as a folder that this program, `transformers` and others open: for measuring, since
//! speed and fidelity do not ask what a model knows.
//!
//! ```text
//! cargo run --release -p clip --example random_model -- FOLDER TOKENIZER.json [SEED]
//! ```

use std::path::PathBuf;

use anyhow::{Context, Result};
use clip::Config;

#[path = "../tests/common/random.rs"]
mod random;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().context("a folder")?);
    let tokenizer = arguments.next().context("a tokenizer.json")?;
    let seed = arguments.next().map_or(Ok(0), |seed| seed.parse())?;
    fs_err::create_dir_all(&folder)?;
    let config = Config::default();
    let mut described = serde_json::to_value(&config)?;
    for (name, value) in [("model_type", "clip".into()), ("architectures", serde_json::json!(["CLIPModel"]))] {
        described[name] = value;
    }
    for tower in ["text_config", "vision_config"] {
        described[tower]["projection_dim"] = config.projection_dim.into();
    }
    fs_err::write(folder.join("config.json"), serde_json::to_vec_pretty(&described)?)?;
    fs_err::copy(tokenizer, folder.join("tokenizer.json"))?;
    candle_core::safetensors::save(&random::weights(&config, seed), folder.join("model.safetensors"))?;
    Ok(())
}
