//! Heads: small networks that give the embedding of a picture a score. LAION published some for how beautiful a picture is,
//! and how surely it is unsafe; whoever has their files can use them.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use candle_nn::{Linear, Module, ops};
use dataset::{Embedding, Scorer};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
#[cfg(feature = "onnxruntime")]
use crate::onnx;
use crate::weights;

/// Largest file that is read: the largest published head has 22 MB.
const BYTES_MAX: u64 = 256 << 20;

/// Embeddings that go through a head at once: 8 MB of numbers at the widest published layer.
const BATCH: usize = 1024;

/// A published network of linear layers. Their names tell it from the others, for a file of weights does not say what
/// stands between them.
struct Layout {
    what: &'static str,
    /// The layers in order; an empty name is that of a file with one layer and nothing else.
    layers: &'static [&'static str],
    /// ReLU stands behind so many of the layers, from the first on.
    rectified: usize,
    /// Whether what comes in is brought to a mean and variance of each dimension, and what comes out is a probability.
    keras: bool,
}

/// Where each is defined: LAION-AI/aesthetic-predictor `README.md`; christophschuhmann/improved-aesthetic-predictor
/// `simple_inference.py` and `avaclipmlp_inf_wds-relu.py`; LAION-AI/CLIP-based-NSFW-Detector `src/models.py`.
const LAYOUTS: [Layout; 6] = [
    Layout { what: "LAION's linear aesthetic predictor", layers: &[""], rectified: 0, keras: false },
    Layout {
        what: "the improved aesthetic predictor (linearMSE)",
        layers: &["layers.0.", "layers.2.", "layers.4.", "layers.6.", "layers.7."],
        rectified: 0,
        keras: false,
    },
    Layout {
        what: "the improved aesthetic predictor with ReLU (reluMSE)",
        layers: &["layers.0.", "layers.3.", "layers.6.", "layers.9.", "layers.11."],
        rectified: 4,
        keras: false,
    },
    Layout {
        what: "LAION's detector of unsafe pictures for H/14",
        layers: &["layers.0.", "layers.3.", "layers.6.", "layers.9.", "layers.12.", "layers.15.", "layers.16."],
        rectified: 5,
        keras: false,
    },
    Layout { what: "for B/32", layers: &["linear_1.", "linear_2.", "linear_3."], rectified: 2, keras: true },
    Layout {
        what: "for L/14",
        layers: &["linear_1.", "linear_2.", "linear_3.", "linear_4."],
        rectified: 3,
        keras: true,
    },
];

/// A head, ready to score.
pub struct Head {
    path: PathBuf,
    fingerprint: String,
    network: Network,
}

/// Who computes.
enum Network {
    Layers(Layers),
    #[cfg(feature = "onnxruntime")]
    Onnx(onnx::Head),
}

impl std::fmt::Debug for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Head").field("path", &self.path).field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

impl Head {
    /// Opens weights of one of LAION's networks, as `torch.save` or safetensors wrote them; or a file that ends with
    /// `.onnx`, which is any network from float32 (rows, dimensions) to (rows, 1) or (rows), and needs `runtime`, the library
    /// of ONNX Runtime.
    pub fn open(path: &Path, runtime: Option<&Path>) -> Result<Self> {
        let told = |cause: String| Error::Head { path: path.into(), cause };
        let length = fs_err::metadata(path)?.len();
        if length > BYTES_MAX {
            return Err(told(format!("{length} bytes, and no head has more than {BYTES_MAX}")));
        }
        let bytes = fs_err::read(path)?;
        let network = if path.extension().is_some_and(|ending| ending == "onnx") {
            run_by_onnx(&bytes, runtime).map_err(|error| told(error.to_string()))?
        } else {
            let tensors = weights::read_finite(path, &bytes)?;
            Network::Layers(Layers::new(&tensors).map_err(told)?)
        };
        let fingerprint = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { path: path.into(), fingerprint, network })
    }
}

#[cfg(feature = "onnxruntime")]
fn run_by_onnx(bytes: &[u8], runtime: Option<&Path>) -> Result<Network> {
    let lacking = "its library is needed and not found: `pip install onnxruntime` in the active environment";
    let library = runtime.ok_or_else(|| Error::Runtime(lacking.into()))?;
    Ok(Network::Onnx(onnx::Head::new(library, bytes)?))
}

#[cfg(not(feature = "onnxruntime"))]
fn run_by_onnx(_: &[u8], _: Option<&Path>) -> Result<Network> {
    Err(Error::Runtime("this program was built without the feature `onnxruntime`".into()))
}

impl Scorer for Head {
    fn scores(&self, images: &[Embedding]) -> dataset::Result<Vec<f32>> {
        let mut scores = Vec::with_capacity(images.len());
        for part in images.chunks(BATCH) {
            let width = part[0].values().len();
            let values: Vec<f32> = part.iter().flat_map(|image| image.values()).copied().collect();
            let found = match &self.network {
                Network::Layers(layers) => layers.scores(values, width),
                #[cfg(feature = "onnxruntime")]
                Network::Onnx(head) => head.scores(values, width),
            };
            scores.extend(found.map_err(|error| dataset::Error::format(&self.path, error))?);
        }
        Ok(scores)
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }
}

/// Linear layers, and what stands around them.
struct Layers {
    /// Of each dimension: mean, and standard deviation.
    standard: Option<(Tensor, Tensor)>,
    linear: Vec<Linear>,
    rectified: usize,
    width: usize,
}

impl Layers {
    /// The error says what is wrong with the weights.
    fn new(tensors: &HashMap<String, Tensor>) -> Result<Self, String> {
        let names: BTreeSet<_> = tensors.keys().cloned().collect();
        let layout = LAYOUTS.iter().find(|layout| layout.names() == names);
        let Some(layout) = layout else { return Err(unknown(&names)) };
        let (mut linear, mut width) = (Vec::new(), None);
        for name in layout.layers {
            let (weight, bias) = (&tensors[&format!("{name}weight")], &tensors[&format!("{name}bias")]);
            let fits = |inputs: usize| width.is_none_or(|width| width == inputs);
            match (weight.dims(), bias.dims()) {
                (&[outputs, inputs], &[biases]) if outputs == biases && fits(inputs) => width = Some(outputs),
                (weight, bias) => {
                    return Err(format!("{name}weight has shape {weight:?}, {name}bias {bias:?}: no such layer"));
                }
            }
            linear.push(Linear::new(weight.clone(), Some(bias.clone())));
        }
        if width != Some(1) {
            return Err(format!("its last layer gives {} numbers, not one score", width.unwrap_or(0)));
        }
        let width = linear[0].weight().dims()[1];
        let standard = layout.keras.then(|| standard(tensors, width)).transpose()?;
        Ok(Self { standard, linear, rectified: layout.rectified, width })
    }

    /// The scores of rows of so many numbers, as PyTorch computes them.
    fn scores(&self, values: Vec<f32>, width: usize) -> Result<Vec<f32>> {
        if width != self.width {
            return Err(takes(self.width, width));
        }
        let rows = values.len() / width;
        let mut values = Tensor::from_vec(values, (rows, width), &Device::Cpu)?;
        if let Some((mean, deviation)) = &self.standard {
            values = values.broadcast_sub(mean)?.broadcast_div(deviation)?;
        }
        for (number, layer) in self.linear.iter().enumerate() {
            values = layer.forward(&values)?;
            if number < self.rectified {
                values = values.relu()?;
            }
        }
        if self.standard.is_some() {
            values = ops::sigmoid(&values)?;
        }
        Ok(values.flatten_all()?.to_vec1()?)
    }
}

/// The error of a head that is of another model.
pub(crate) fn takes(width: usize, dimensions: usize) -> Error {
    let cause = format!("it takes {width} numbers a picture, and the embeddings have {dimensions}: of another model?");
    Error::Shape { cause }
}

/// Mean and deviation of each dimension; what is added keeps PyTorch's port of LAION's Keras models from dividing by 0.
fn standard(tensors: &HashMap<String, Tensor>, width: usize) -> Result<(Tensor, Tensor), String> {
    let (mean, variance) = (&tensors["norm.mean"], &tensors["norm.variance"]);
    if mean.dims() != [width] || variance.dims() != [width] {
        return Err(format!("norm.mean and norm.variance have other shapes than [{width}]"));
    }
    let wrong = |error: candle_core::Error| error.to_string();
    if variance.to_vec1::<f32>().map_err(wrong)?.iter().any(|&variance| variance < 0.0) {
        return Err("norm.variance has a value below 0".into());
    }
    Ok((mean.clone(), variance.sqrt().and_then(|deviation| deviation + 1e-10).map_err(wrong)?))
}

impl Layout {
    /// The names of all its weights.
    fn names(&self) -> BTreeSet<String> {
        let layers = self.layers.iter().flat_map(|name| ["weight", "bias"].map(|kind| format!("{name}{kind}")));
        let standard = ["norm.mean", "norm.variance"].map(String::from).into_iter().filter(|_| self.keras);
        layers.chain(standard).collect()
    }
}

/// What is said of weights that are none of [`LAYOUTS`].
fn unknown(names: &BTreeSet<String>) -> String {
    if names.is_empty() {
        return "no weights in it: it must be a state_dict".into();
    }
    let some: Vec<_> = names.iter().take(4).map(String::as_str).collect();
    let more = if names.len() > some.len() { ", …" } else { "" };
    let known: Vec<_> = LAYOUTS.iter().map(|layout| layout.what).collect();
    format!(
        "weights of no known head ({}{more}); known are {}; any other must be .onnx",
        some.join(", "),
        known.join(", ")
    )
}
