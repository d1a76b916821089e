//! Both towers together.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{D, DType, Device, Tensor};
use candle_nn::VarBuilder;
use dataset::{Embedder, Embedding, Pixels, Precision};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::error::{Error, Result};
#[cfg(feature = "onnxruntime")]
use crate::onnx;
use crate::text::TextTower;
use crate::tokenizer::Tokenizer;
use crate::vision::VisionTower;
use crate::{preprocess, weights};

/// How a model is run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The library of ONNX Runtime, 1.23 or newer; none: candle, which is slower and has but 32 bits.
    pub runtime: Option<PathBuf>,
    /// With how many bits.
    pub precision: Precision,
    /// Threads of ONNX Runtime; none: as many as there are processors. candle takes what rayon has.
    pub threads: Option<usize>,
    /// CUDA devices, by their numbers, that ONNX Runtime computes on; none: the processor.
    pub devices: Vec<i32>,
}

/// Who computes.
enum Towers {
    Candle(VisionTower, TextTower),
    #[cfg(feature = "onnxruntime")]
    Onnx(onnx::Towers),
}

/// Pictures or texts that go through a tower at once. Larger batches cost memory and gain nothing on a CPU.
const BATCH: usize = 32;
/// The same on a device, which has thousands of units to keep busy.
pub(crate) const DEVICE_BATCH: usize = 256;
/// Shards that feed a device: while one of them waits for it or is written, it computes for another.
const LANES: usize = 3;

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
    towers: Towers,
    /// How many devices compute; 0: the processor.
    devices: usize,
    fingerprint: String,
}

impl std::fmt::Debug for Clip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clip").field("config", &self.config).field("fingerprint", &self.fingerprint).finish()
    }
}

impl Clip {
    /// Opens a folder as the Hugging Face Hub keeps it: `config.json` and `model.safetensors` or `pytorch_model.bin`, or
    /// OpenCLIP's files, and `tokenizer.json`.
    pub fn open(folder: &Path) -> Result<Self> {
        Self::open_with(folder, &Options::default())
    }

    /// The same, run otherwise.
    pub fn open_with(folder: &Path, options: &Options) -> Result<Self> {
        let config = Config::of_folder(folder)?;
        let tokenizer = fs_err::read(folder.join("tokenizer.json"))?;
        let file = weights::file(folder)?;
        // What the file holds is let go of before a runtime takes its copy.
        let (tensors, fingerprint) = loaded(&file, &fs_err::read(&file)?, &tokenizer)?;
        Self::from_tensors(config, &tokenizer, tensors, fingerprint, options)
    }

    /// The small model that comes with the program: it knows drawn shapes, colours and where they are, nothing else.
    pub fn tiny() -> Self {
        Self::tiny_with(&Options::default()).expect("the bundled files were written by this crate's example train_tiny")
    }

    /// The same, run otherwise.
    pub fn tiny_with(options: &Options) -> Result<Self> {
        let path = Path::new("models/tiny/config.json");
        let config = serde_json::from_slice(include_bytes!("../models/tiny/config.json"));
        let config = config.map_err(|source| Error::Config { path: path.into(), source })?;
        let weights = include_bytes!("../models/tiny/model.safetensors");
        let tokenizer = include_bytes!("../models/tiny/tokenizer.json");
        let (tensors, fingerprint) = loaded(Path::new("models/tiny/model.safetensors"), weights, tokenizer)?;
        Self::from_tensors(config, tokenizer, tensors, fingerprint, options)
    }

    /// A model of these weights, named as `transformers` names them; `fingerprint` is theirs.
    #[doc(hidden)]
    pub fn from_tensors(
        config: Config,
        tokenizer: &[u8],
        tensors: HashMap<String, Tensor>,
        mut fingerprint: String,
        options: &Options,
    ) -> Result<Self> {
        fingerprint = options.precision.fingerprint(&fingerprint);
        #[cfg(feature = "onnxruntime")]
        if let Some(library) = &options.runtime {
            config.check()?;
            let towers = Towers::Onnx(onnx::Towers::new(library, &config, &tensors, options)?);
            let tokenizer = Tokenizer::new(tokenizer, config.text_config.max_position_embeddings)?;
            return Ok(Self { config, tokenizer, towers, devices: options.devices.len(), fingerprint });
        }
        if cfg!(not(feature = "onnxruntime")) && options.runtime.is_some() {
            return Err(Error::Runtime("this program was built without the feature `onnxruntime`".into()));
        }
        if !options.devices.is_empty() {
            return Err(Error::Runtime("CUDA needs its library, and there is none".into()));
        }
        if options.precision != Precision::Float32 {
            return Err(Error::Runtime("other bits than 32 need its library, and there is none".into()));
        }
        Self::load(config, tokenizer, &VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu), fingerprint)
    }

    /// Builds the model on variables, which is how `train_tiny` trains the very code that others run.
    #[doc(hidden)]
    pub fn load(config: Config, tokenizer: &[u8], vars: &VarBuilder<'_>, fingerprint: String) -> Result<Self> {
        config.check()?;
        let dimensions = config.projection_dim;
        let vision = VisionTower::load(&config.vision_config, dimensions, vars)?;
        let text = TextTower::load(&config.text_config, dimensions, vars)?;
        Ok(Self {
            tokenizer: Tokenizer::new(tokenizer, config.text_config.max_position_embeddings)?,
            towers: Towers::Candle(vision, text),
            devices: 0,
            config,
            fingerprint,
        })
    }

    /// Unit vectors of pictures as a tensor of shape (pictures, dimensions), with its gradient if the model has one.
    #[doc(hidden)]
    pub fn image_features(&self, pictures: &[Pixels]) -> Result<Tensor> {
        let side = self.config.vision_config.image_size;
        let values = || preprocess::batch(pictures, side, &self.config.normalization);
        unit(&match &self.towers {
            Towers::Candle(vision, _) => {
                vision.forward(&Tensor::from_vec(values()?, (pictures.len(), 3, side, side), &Device::Cpu)?)?
            }
            #[cfg(feature = "onnxruntime")]
            Towers::Onnx(towers) if towers.take_bytes() => {
                towers.images_of_bytes(pictures.len(), |bytes| preprocess::fill(bytes, pictures, side))?
            }
            #[cfg(feature = "onnxruntime")]
            Towers::Onnx(towers) => towers.images(&values()?, pictures.len())?,
        })
    }

    /// Pictures or texts that go through a tower at once.
    fn part(&self) -> usize {
        if self.devices == 0 { BATCH } else { DEVICE_BATCH }
    }

    /// Unit vectors of texts as a tensor of shape (texts, dimensions), with its gradient if the model has one.
    #[doc(hidden)]
    pub fn text_features(&self, texts: &[&str]) -> Result<Tensor> {
        let ids: Vec<_> = texts.iter().map(|text| self.tokenizer.encode(text)).collect::<Result<_>>()?;
        self.token_features(&ids)
    }

    fn token_features(&self, ids: &[Vec<u32>]) -> Result<Tensor> {
        unit(&match &self.towers {
            Towers::Candle(_, text) => text.forward(ids)?,
            #[cfg(feature = "onnxruntime")]
            Towers::Onnx(towers) => towers.texts(ids)?,
        })
    }
}

impl Embedder for Clip {
    fn dimensions(&self) -> usize {
        self.config.projection_dim
    }

    fn images(&self, batch: &[Pixels]) -> dataset::Result<Vec<Embedding>> {
        let mut all = Vec::with_capacity(batch.len());
        for part in batch.chunks(self.part()) {
            all.extend(embeddings(&self.image_features(part)?)?);
        }
        Ok(all)
    }

    /// Texts of like length go through together, for a batch costs as if all were as long as its longest.
    fn texts(&self, batch: &[&str]) -> dataset::Result<Vec<Embedding>> {
        let ids: Vec<_> = batch.par_iter().map(|text| self.tokenizer.encode(text)).collect::<Result<_>>()?;
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_by_key(|&text| ids[text].len());
        let mut all = vec![None; ids.len()];
        let mut rest = &order[..];
        while let Some(&shortest) = rest.first() {
            // A device has a batch of one size, whatever is in it.
            let longest = if self.devices == 0 { ids[shortest].len() * 5 / 4 + 1 } else { usize::MAX };
            let count = rest.iter().take(self.part()).take_while(|&&text| ids[text].len() <= longest).count();
            let (part, others) = rest.split_at(count);
            rest = others;
            let together: Vec<_> = part.iter().map(|&text| ids[text].clone()).collect();
            let embeddings = embeddings(&self.token_features(&together)?)?;
            part.iter().zip(embeddings).for_each(|(&text, embedding)| all[text] = Some(embedding));
        }
        Ok(all.into_iter().flatten().collect())
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    fn batch(&self) -> usize {
        self.part().max(2 * BATCH)
    }

    fn lanes(&self) -> usize {
        (self.devices * LANES).max(1)
    }
}

fn embeddings(features: &Tensor) -> dataset::Result<Vec<Embedding>> {
    features.to_vec2::<f32>().map_err(Error::from)?.into_iter().map(Embedding::normalized).collect()
}

/// The weights of a file, and what names them and the tokenizer.
fn loaded(file: &Path, bytes: &[u8], tokenizer: &[u8]) -> Result<(HashMap<String, Tensor>, String)> {
    let hash = Sha256::new().chain_update(bytes).chain_update(tokenizer).finalize();
    Ok((weights::read_finite(file, bytes)?, hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()))
}

fn unit(features: &Tensor) -> Result<Tensor> {
    let length = (features.sqr()?.sum_keepdim(D::Minus1)? + 1e-12)?.sqrt()?;
    Ok(features.broadcast_div(&length)?)
}
