//! The shape of a model, as `config.json` of a Hugging Face CLIP folder or `open_clip_config.json` gives it.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The whole model. Fields that a file leaves out have the values of ViT-B/32, as in `transformers`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Dimensions of the space both towers share.
    pub projection_dim: usize,
    /// The text tower.
    pub text_config: TextConfig,
    /// The image tower.
    pub vision_config: VisionConfig,
    /// Of the colours; in a file of its own.
    #[serde(skip)]
    pub normalization: Normalization,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            projection_dim: 512,
            text_config: TextConfig::default(),
            vision_config: VisionConfig::default(),
            normalization: Normalization::default(),
        }
    }
}

impl Config {
    /// The configuration of the model in `folder`: `transformers`' if it is there, else OpenCLIP's.
    pub fn of_folder(folder: &Path) -> Result<Self> {
        let (own, open_clip) = (folder.join("config.json"), folder.join("open_clip_config.json"));
        let config = if !own.is_file() && open_clip.is_file() {
            read::<OpenClip>(&open_clip)?.config()?
        } else {
            let mut config: Self = read(&own)?;
            let preprocessor = folder.join("preprocessor_config.json");
            if preprocessor.is_file() {
                config.normalization = read(&preprocessor)?;
            }
            config
        };
        config.check()?;
        Ok(config)
    }

    /// Refuses numbers that would divide by zero or leave a remainder.
    pub(crate) fn check(&self) -> Result<()> {
        let (text, vision) = (&self.text_config, &self.vision_config);
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
        if text.max_position_embeddings < 2 || self.projection_dim == 0 {
            return wrong("max_position_embeddings must be at least 2 and projection_dim at least 1");
        }
        if self.normalization.deviation.iter().any(|&deviation| deviation.is_nan() || deviation <= 0.0) {
            return wrong("the standard deviation of each colour must be above 0");
        }
        Ok(())
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_slice(&fs_err::read(path)?).map_err(|source| Error::Config { path: path.into(), source })
}

/// What is taken from each colour, and by what the rest is divided, of values from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Normalization {
    /// Mean of each channel.
    #[serde(rename = "image_mean")]
    pub mean: [f32; 3],
    /// Standard deviation of each channel.
    #[serde(rename = "image_std")]
    pub deviation: [f32; 3],
}

impl Default for Normalization {
    /// Those of OpenAI's training pictures (openai/CLIP, `clip.py`).
    fn default() -> Self {
        Self { mean: [0.481_454_66, 0.457_827_5, 0.408_210_73], deviation: [0.268_629_54, 0.261_302_6, 0.275_777_1] }
    }
}

/// The causal transformer that reads captions.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct TextConfig {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the hidden layer of each MLP.
    pub intermediate_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Heads of each attention.
    pub num_attention_heads: usize,
    /// Context length in tokens, start and end included.
    pub max_position_embeddings: usize,
    /// Rows of the token table.
    pub vocab_size: usize,
    /// Of each MLP.
    pub hidden_act: Activation,
    /// Added to the variance.
    pub layer_norm_eps: f64,
    /// The token whose position is pooled. Files written before `transformers` 4.31 say 2 here and mean the
    /// largest id (huggingface/transformers pull request 24773).
    pub eos_token_id: u32,
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            hidden_size: 512,
            intermediate_size: 2048,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            vocab_size: 49408,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
            eos_token_id: 49407,
        }
    }
}

/// The transformer that looks at pictures.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct VisionConfig {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the hidden layer of each MLP.
    pub intermediate_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Heads of each attention.
    pub num_attention_heads: usize,
    /// Side of the square it sees, in pixels.
    pub image_size: usize,
    /// Side of a patch, in pixels.
    pub patch_size: usize,
    /// Of each MLP.
    pub hidden_act: Activation,
    /// Added to the variance.
    pub layer_norm_eps: f64,
}

impl Default for VisionConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            image_size: 224,
            patch_size: 32,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        }
    }
}

/// `open_clip_config.json`, as the Hub has it (mlfoundations/open_clip `factory.py`, `model.py`).
#[derive(Deserialize)]
struct OpenClip {
    model_cfg: OpenClipModel,
    #[serde(default)]
    preprocess_cfg: OpenClipPreprocess,
}

#[derive(Deserialize)]
struct OpenClipModel {
    embed_dim: usize,
    #[serde(default)]
    quick_gelu: bool,
    vision_cfg: OpenClipVision,
    text_cfg: OpenClipText,
}

/// ResNets have a list of layers, and are refused by that.
#[derive(Deserialize)]
struct OpenClipVision {
    image_size: usize,
    layers: usize,
    width: usize,
    patch_size: usize,
    #[serde(default = "head_width")]
    head_width: usize,
    #[serde(default = "mlp_ratio")]
    mlp_ratio: f64,
}

#[derive(Deserialize)]
struct OpenClipText {
    context_length: usize,
    vocab_size: usize,
    width: usize,
    heads: usize,
    layers: usize,
    #[serde(default = "mlp_ratio")]
    mlp_ratio: f64,
}

#[derive(Default, Deserialize)]
struct OpenClipPreprocess {
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
    interpolation: Option<String>,
    resize_mode: Option<String>,
}

fn head_width() -> usize {
    64
}

fn mlp_ratio() -> f64 {
    4.0
}

impl OpenClip {
    fn config(self) -> Result<Config> {
        let OpenClipModel { embed_dim, quick_gelu, vision_cfg: vision, text_cfg: text } = self.model_cfg;
        let preprocess = self.preprocess_cfg;
        for (what, found, known) in [
            ("interpolation", preprocess.interpolation, "bicubic"),
            ("resize_mode", preprocess.resize_mode, "shortest"),
        ] {
            if let Some(found) = found.filter(|found| found != known) {
                return Err(Error::Shape { cause: format!("{what} {found:?}; only {known:?} is known") });
            }
        }
        if vision.head_width == 0 {
            return Err(Error::Shape { cause: "head_width must be at least 1".into() });
        }
        let hidden_act = if quick_gelu { Activation::QuickGelu } else { Activation::Gelu };
        let mlp = |width: usize, ratio: f64| (width as f64 * ratio) as usize;
        let normalization = Normalization::default();
        Ok(Config {
            projection_dim: embed_dim,
            text_config: TextConfig {
                hidden_size: text.width,
                intermediate_size: mlp(text.width, text.mlp_ratio),
                num_hidden_layers: text.layers,
                num_attention_heads: text.heads,
                max_position_embeddings: text.context_length,
                vocab_size: text.vocab_size,
                hidden_act,
                layer_norm_eps: 1e-5,
                eos_token_id: LARGEST, // `text_global_pool` takes the largest
            },
            vision_config: VisionConfig {
                hidden_size: vision.width,
                intermediate_size: mlp(vision.width, vision.mlp_ratio),
                num_hidden_layers: vision.layers,
                num_attention_heads: vision.width / vision.head_width,
                image_size: vision.image_size,
                patch_size: vision.patch_size,
                hidden_act,
                layer_norm_eps: 1e-5,
            },
            normalization: Normalization {
                mean: preprocess.mean.unwrap_or(normalization.mean),
                deviation: preprocess.std.unwrap_or(normalization.deviation),
            },
        })
    }
}

/// What configurations written before `transformers` 4.31 say as the end token, and mean the largest id.
pub(crate) const LARGEST: u32 = 2;

/// The non-linearity of an MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x * sigmoid(1.702 x)`: OpenAI's weights.
    QuickGelu,
    /// `x * Φ(x)`: LAION's weights.
    Gelu,
}
