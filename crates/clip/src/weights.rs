//! The weights of a model folder, under the names that `transformers` gives them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor, pickle, safetensors};

use crate::error::{Error, Result};

/// Files with weights, in the order in which they are looked for: those of `transformers`, then OpenCLIP's.
const FILES: [&str; 4] =
    ["model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "open_clip_pytorch_model.bin"];

/// The file with the weights of the model in `folder`.
pub(crate) fn file(folder: &Path) -> Result<PathBuf> {
    let found = FILES.iter().map(|name| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| Error::NoWeights { folder: folder.into(), names: FILES.join(", ") })
}

/// Reads a file of weights, as [`read`], and refuses those that are no numbers.
pub(crate) fn read_finite(path: &Path, bytes: &[u8]) -> Result<HashMap<String, Tensor>> {
    let tensors = read(path, bytes)?;
    match not_finite(&tensors)? {
        Some(name) => Err(Error::NotFinite { path: path.into(), name: name.into() }),
        None => Ok(tensors),
    }
}

/// Reads a file of weights; `bytes` are what it holds. OpenCLIP's and OpenAI's names become those of `transformers`.
fn read(path: &Path, bytes: &[u8]) -> Result<HashMap<String, Tensor>> {
    let damaged = |source| Error::Weights { path: path.into(), source };
    let tensors = if path.extension().is_some_and(|ending| ending == "safetensors") {
        safetensors::load_buffer(bytes, &Device::Cpu).map_err(damaged)?
    } else {
        pickled(path, bytes.len()).map_err(damaged)?
    };
    let floats = |(name, tensor): (String, Tensor)| Ok((name, tensor.to_dtype(DType::F32)?));
    let tensors: HashMap<_, _> =
        tensors.into_iter().map(floats).collect::<candle_core::Result<_>>().map_err(damaged)?;
    if tensors.contains_key("visual.class_embedding") { renamed(tensors).map_err(damaged) } else { Ok(tensors) }
}

/// The tensors of a file of so many bytes that `torch.save` wrote. Nothing in it is run: what is no tensor is passed over.
fn pickled(path: &Path, length: usize) -> candle_core::Result<HashMap<String, Tensor>> {
    let read = || {
        let file = pickle::PthTensors::new(path, None)?;
        let mut tensors = HashMap::new();
        for (name, tensor) in file.tensor_infos() {
            // Room is taken for what the description says, so it must not say more than the file can hold.
            let shape = tensor.layout.dims();
            let bytes = shape.iter().try_fold(tensor.dtype.size_in_bytes(), |bytes, &side| bytes.checked_mul(side));
            if bytes.is_none_or(|bytes| bytes > length) {
                candle_core::bail!("{name} has shape {shape:?}, more than a file of {length} bytes holds");
            }
            tensors.extend(file.get(name)?.map(|tensor| (name.clone(), tensor)));
        }
        Ok(tensors)
    };
    // candle counts on descriptions that are whole, and panics at others: that, too, is an error of the file.
    let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read));
    read.unwrap_or_else(|_| Err(candle_core::Error::Msg("a damaged description of a tensor".into())))
}

/// Which weight has a number that is none.
fn not_finite(tensors: &HashMap<String, Tensor>) -> Result<Option<&str>> {
    for (name, tensor) in tensors {
        // A sum with NaN or infinity among its parts is none either.
        if !tensor.abs()?.sum_all()?.to_scalar::<f32>()?.is_finite() {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// From OpenCLIP's names, which are OpenAI's. Its projections are stored the other way round, and the three matrices of
/// an attention as one (mlfoundations/open_clip `model.py`, `transformer.py`).
fn renamed(tensors: HashMap<String, Tensor>) -> candle_core::Result<HashMap<String, Tensor>> {
    let mut renamed = HashMap::new();
    for (name, tensor) in tensors {
        let (tower, rest) = match name.strip_prefix("visual.") {
            Some(rest) => ("vision_model", rest),
            None => ("text_model", &name[..]),
        };
        let whole = match (tower, rest) {
            ("vision_model", "class_embedding") => "vision_model.embeddings.class_embedding",
            ("vision_model", "conv1.weight") => "vision_model.embeddings.patch_embedding.weight",
            ("vision_model", "positional_embedding") => "vision_model.embeddings.position_embedding.weight",
            ("vision_model", "proj") => "visual_projection.weight",
            ("text_model", "token_embedding.weight") => "text_model.embeddings.token_embedding.weight",
            ("text_model", "positional_embedding") => "text_model.embeddings.position_embedding.weight",
            ("text_model", "text_projection") => "text_projection.weight",
            _ => "",
        };
        if !whole.is_empty() {
            let turned = whole.ends_with("projection.weight");
            renamed.insert(whole.to_owned(), if turned { tensor.t()?.contiguous()? } else { tensor });
            continue;
        }
        if let Some((norm, part)) = rest.split_once('.')
            && let Some(norm) = match norm {
                "ln_pre" => Some("pre_layrnorm"),
                "ln_post" => Some("post_layernorm"),
                "ln_final" => Some("final_layer_norm"),
                _ => None,
            }
        {
            renamed.insert(format!("{tower}.{norm}.{part}"), tensor);
            continue;
        }
        let Some((layer, part)) = rest.strip_prefix("transformer.resblocks.").and_then(|rest| rest.split_once('.'))
        else {
            renamed.insert(name, tensor); // logit_scale, and what nobody asks for
            continue;
        };
        let layer = format!("{tower}.encoder.layers.{layer}");
        if let Some(kind) = part.strip_prefix("attn.in_proj_") {
            for (part, name) in tensor.chunk(3, 0)?.iter().zip(["q", "k", "v"]) {
                renamed.insert(format!("{layer}.self_attn.{name}_proj.{kind}"), part.contiguous()?);
            }
            continue;
        }
        let parts = [
            ("attn.out_proj", "self_attn.out_proj"),
            ("ln_1", "layer_norm1"),
            ("ln_2", "layer_norm2"),
            ("mlp.c_fc", "mlp.fc1"),
            ("mlp.c_proj", "mlp.fc2"),
        ];
        let part = parts.iter().fold(part.to_owned(), |part, (old, new)| part.replacen(old, new, 1));
        renamed.insert(format!("{layer}.{part}"), tensor);
    }
    Ok(renamed)
}
