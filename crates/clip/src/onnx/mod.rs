//! The towers in ONNX Runtime, a library of C++ that is loaded if it is there.

mod graph;
mod head;
mod proto;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, OnceLock};

use candle_core::{Device, Tensor};
use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::Session;
use ort::session::builder::SessionBuilder;
use ort::value::{DynValue, Tensor as Value};

use crate::Precision;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::text::end_position;
use graph::{Tower, Values};

pub(crate) use head::Head;

/// Both towers, ready to run.
pub(crate) struct Towers {
    vision: Mutex<Session>,
    text: Mutex<Session>,
    config: Config,
}

/// The library once it is loaded, which it can be once.
static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();

fn environment(library: &Path) -> Result<&'static Environment> {
    if let Some(environment) = ENVIRONMENT.get() {
        return Ok(environment);
    }
    let builder = ort::init_from(library).map_err(|error| Error::Runtime(error.to_string()))?;
    let environment = builder.with_name("laion400m").with_telemetry(false).build().map_err(told)?;
    Ok(ENVIRONMENT.get_or_init(|| environment))
}

fn told<R>(error: ort::Error<R>) -> Error {
    Error::Runtime(error.to_string())
}

impl Towers {
    pub(crate) fn new(
        library: &Path,
        config: &Config,
        tensors: &HashMap<String, Tensor>,
        precision: Precision,
        threads: usize,
    ) -> Result<Self> {
        let environment = environment(library)?;
        let session = |tower| Ok::<_, Error>(Mutex::new(session(environment, tower, threads)?));
        Ok(Self {
            vision: session(Tower::vision(config, tensors, precision)?)?,
            text: session(Tower::text(config, tensors, precision)?)?,
            config: config.clone(),
        })
    }

    /// Values of shape (pictures, 3, side, side) → (pictures, dimensions), not normalised.
    pub(crate) fn images(&self, values: &[f32], pictures: usize) -> Result<Tensor> {
        let vision = &self.config.vision_config;
        let across = vision.image_size / vision.patch_size;
        let tokens = across * across + 1;
        let width = 3 * vision.patch_size.pow(2);
        let patches = patches(values, vision.image_size, vision.patch_size);
        let ends = (0..pictures).map(|picture| (picture * tokens) as i64).collect();
        let mut inputs = self.common(pictures, tokens, vision.hidden_size, ends)?;
        inputs.push(("patches", value(&[pictures, tokens, width], patches)?));
        self.run(&self.vision, inputs, pictures)
    }

    /// Token ids, each ending with the end token → (texts, dimensions), not normalised.
    pub(crate) fn texts(&self, texts: &[Vec<u32>]) -> Result<Tensor> {
        let text = &self.config.text_config;
        let tokens = texts.iter().map(Vec::len).max().unwrap_or(1);
        let mut ids = vec![0i64; texts.len() * tokens];
        for (row, text) in ids.chunks_exact_mut(tokens).zip(texts) {
            row.iter_mut().zip(text).for_each(|(place, &id)| *place = id.into());
        }
        if let Some(id) = ids.iter().find(|&&id| id >= text.vocab_size as i64) {
            let cause = format!("the tokenizer gives {id}, and vocab_size is {}", text.vocab_size);
            return Err(Error::Shape { cause });
        }
        let ends: Vec<usize> = texts.iter().map(|ids| end_position(ids, text.eos_token_id)).collect();
        let rows = ends.iter().enumerate().map(|(row, end)| (row * tokens + end) as i64).collect();
        let mut inputs = self.common(texts.len(), tokens, text.hidden_size, rows)?;
        inputs.push(("ids", value(&[texts.len(), tokens], ids)?));
        inputs.push(("places", value(&[tokens], (0..tokens as i64).collect())?));
        inputs.push(("lengths", value(&[texts.len()], ends.iter().map(|&end| end as i32 + 1).collect())?));
        self.run(&self.text, inputs, texts.len())
    }

    fn common(
        &self,
        batch: usize,
        tokens: usize,
        width: usize,
        ends: Vec<i64>,
    ) -> Result<Vec<(&'static str, DynValue)>> {
        let shape = |tokens: usize| value(&[3], vec![batch as i64, tokens as i64, width as i64]);
        Ok(vec![("shape", shape(tokens)?), ("one", shape(1)?), ("ends", value(&[batch], ends)?)])
    }

    fn run(&self, session: &Mutex<Session>, inputs: Vec<(&'static str, DynValue)>, batch: usize) -> Result<Tensor> {
        let mut session = session.lock().expect("no thread panics with the lock");
        let outputs = session.run(inputs).map_err(told)?;
        let (_, features) = outputs["features"].try_extract_tensor::<f32>().map_err(told)?;
        Ok(Tensor::from_slice(features, (batch, self.config.projection_dim), &Device::Cpu)?)
    }
}

fn value<T>(dimensions: &[usize], values: Vec<T>) -> Result<DynValue>
where
    T: ort::value::PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static,
{
    Ok(Value::from_array((dimensions.to_vec(), values)).map_err(told)?.into_dyn())
}

fn builder(environment: &Environment, threads: usize) -> Result<SessionBuilder> {
    Session::builder(environment)
        .map_err(told)?
        .with_intra_threads(threads)
        .map_err(told)?
        // Threads that wait for work by turning would take the processors from those that decode.
        .with_intra_op_spinning(false)
        .map_err(told)?
        .with_log_level(LogLevel::Error)
        .map_err(told)
}

fn session(environment: &Environment, mut tower: Tower<'_>, threads: usize) -> Result<Session> {
    let mut builder = builder(environment, threads)?;
    for weight in std::mem::take(&mut tower.weights) {
        let value = match weight.values {
            Values::Floats(values) => value(&weight.dimensions, values)?,
            Values::Bytes(values) => value(&weight.dimensions, values)?,
        };
        builder = builder.with_external_initializer(weight.name, value).map_err(told)?;
    }
    builder.commit_from_memory(&tower.model()).map_err(told)
}

/// Pictures of shape (pictures, 3, side, side) cut into patches of shape (pictures, tokens, 3 x patch x patch), row by
/// row; the first token of each is 0.
fn patches(values: &[f32], side: usize, patch: usize) -> Vec<f32> {
    let across = side / patch;
    let mut patches = Vec::with_capacity(values.len() / side.pow(2) * (across * across + 1) * patch * patch);
    for picture in values.chunks_exact(3 * side * side) {
        patches.resize(patches.len() + 3 * patch * patch, 0.0);
        for (down, right) in (0..across).flat_map(|down| (0..across).map(move |right| (down, right))) {
            for channel in picture.chunks_exact(side * side) {
                let lines = channel.chunks_exact(side).skip(down * patch).take(patch);
                lines.for_each(|line| patches.extend(&line[right * patch..][..patch]));
            }
        }
    }
    patches
}
