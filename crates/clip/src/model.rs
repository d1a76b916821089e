//! Both towers together.

use std::path::Path;

use candle_core::{D, DType, Device, Tensor};
use candle_nn::VarBuilder;
use dataset::{Embedder, Embedding, Pixels};
use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::preprocess;
use crate::text::TextTower;
use crate::tokenizer::Tokenizer;
use crate::vision::VisionTower;

/// Pictures or texts that go through a tower at once. Larger batches cost memory and gain nothing on a CPU.
const BATCH: usize = 32;

/// A CLIP model, ready to embed.
///
/// ```no_run
/// use dataset::Embedder;
/// let clip = clip::Clip::open("clip-vit-base-patch32".as_ref())?;
/// let words = clip.texts(&["a red car"])?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Clip {
    config: Config,
    tokenizer: Tokenizer,
    vision: VisionTower,
    text: TextTower,
    fingerprint: String,
}

impl std::fmt::Debug for Clip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clip").field("config", &self.config).field("fingerprint", &self.fingerprint).finish()
    }
}

impl Clip {
    /// Opens a folder with `config.json`, `model.safetensors` and `tokenizer.json`, as the Hugging Face Hub keeps them.
    pub fn open(folder: &Path) -> Result<Self> {
        let config = fs_err::read(folder.join("config.json"))?;
        let weights = fs_err::read(folder.join("model.safetensors"))?;
        let tokenizer = fs_err::read(folder.join("tokenizer.json"))?;
        Self::from_parts(&folder.join("config.json"), &config, weights, &tokenizer)
    }

    /// The small model that comes with the program: it knows drawn shapes, colours and where they are, nothing else.
    pub fn tiny() -> Self {
        Self::from_parts(
            Path::new("models/tiny/config.json"),
            include_bytes!("../models/tiny/config.json"),
            include_bytes!("../models/tiny/model.safetensors").to_vec(),
            include_bytes!("../models/tiny/tokenizer.json"),
        )
        .expect("the bundled files were written by this crate's example train_tiny")
    }

    fn from_parts(path: &Path, config: &[u8], weights: Vec<u8>, tokenizer: &[u8]) -> Result<Self> {
        let config = serde_json::from_slice(config).map_err(|source| Error::Config { path: path.into(), source })?;
        let mut hash = Sha256::new();
        for part in [&weights[..], tokenizer] {
            hash.update(part);
        }
        let fingerprint = hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let vars = VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu)?;
        Self::load(config, tokenizer, &vars, fingerprint)
    }

    /// Builds the model on variables, which is how `train_tiny` trains the very code that others run.
    #[doc(hidden)]
    pub fn load(config: Config, tokenizer: &[u8], vars: &VarBuilder<'_>, fingerprint: String) -> Result<Self> {
        check(&config)?;
        let dimensions = config.projection_dim;
        Ok(Self {
            tokenizer: Tokenizer::new(tokenizer, config.text_config.max_position_embeddings)?,
            vision: VisionTower::load(&config.vision_config, dimensions, vars)?,
            text: TextTower::load(&config.text_config, dimensions, vars)?,
            config,
            fingerprint,
        })
    }

    /// Unit vectors of pictures as a tensor of shape (pictures, dimensions), with its gradient if the model has one.
    #[doc(hidden)]
    pub fn image_features(&self, pictures: &[Pixels]) -> Result<Tensor> {
        let pixels = preprocess::batch(pictures, self.config.vision_config.image_size)?;
        unit(&self.vision.forward(&pixels)?)
    }

    /// Unit vectors of texts as a tensor of shape (texts, dimensions), with its gradient if the model has one.
    #[doc(hidden)]
    pub fn text_features(&self, texts: &[&str]) -> Result<Tensor> {
        let ids: Vec<_> = texts.iter().map(|text| self.tokenizer.encode(text)).collect::<Result<_>>()?;
        unit(&self.text.forward(&ids)?)
    }
}

impl Embedder for Clip {
    fn dimensions(&self) -> usize {
        self.config.projection_dim
    }

    fn images(&self, batch: &[Pixels]) -> dataset::Result<Vec<Embedding>> {
        embeddings(batch, |part| self.image_features(part))
    }

    fn texts(&self, batch: &[&str]) -> dataset::Result<Vec<Embedding>> {
        embeddings(batch, |part| self.text_features(part))
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }
}

fn embeddings<T>(items: &[T], features: impl Fn(&[T]) -> Result<Tensor>) -> dataset::Result<Vec<Embedding>> {
    let mut all = Vec::with_capacity(items.len());
    for part in items.chunks(BATCH) {
        let rows = features(part)?.to_vec2::<f32>().map_err(Error::from)?;
        for row in rows {
            all.push(Embedding::normalized(row)?);
        }
    }
    Ok(all)
}

fn unit(features: &Tensor) -> Result<Tensor> {
    let length = (features.sqr()?.sum_keepdim(D::Minus1)? + 1e-12)?.sqrt()?;
    Ok(features.broadcast_div(&length)?)
}

/// Refuses numbers that would divide by zero or leave a remainder.
fn check(config: &Config) -> Result<()> {
    let (text, vision) = (&config.text_config, &config.vision_config);
    let wrong = |cause: &str| Err(Error::Shape { cause: cause.into() });
    if vision.patch_size == 0 || vision.image_size == 0 || vision.image_size % vision.patch_size != 0 {
        return wrong("image_size must be a multiple of patch_size");
    }
    for (width, heads) in
        [(text.hidden_size, text.num_attention_heads), (vision.hidden_size, vision.num_attention_heads)]
    {
        if heads == 0 || width == 0 || width % heads != 0 {
            return wrong("hidden_size must be a multiple of num_attention_heads");
        }
    }
    if text.max_position_embeddings < 2 || config.projection_dim == 0 {
        return wrong("max_position_embeddings must be at least 2 and projection_dim at least 1");
    }
    Ok(())
}
