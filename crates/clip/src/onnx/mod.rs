//! The towers in ONNX Runtime, a library of C++ that is loaded if it is there.

mod cuda;
mod graph;
mod head;
mod proto;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use candle_core::{Device, Tensor};
use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::builder::SessionBuilder;
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, Tensor as Value};

use crate::Precision;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::model::{DEVICE_BATCH, Options};
use crate::text::end_position;
use cuda::Pinned;
use graph::{Tower, Values, is_half};

pub(crate) use head::Head;

/// Both towers, ready to run.
pub(crate) struct Towers {
    config: Config,
    precision: Precision,
    /// Any of them does.
    pairs: Vec<Pair>,
    /// Whose turn it is when all are busy.
    turn: AtomicUsize,
    /// Where devices compute: memory that they read themselves.
    pinned: Option<Pinned>,
}

/// Both towers on one device, or on the processor.
struct Pair {
    vision: Mutex<Session>,
    text: Mutex<Session>,
}

type Inputs<'a> = Vec<(&'static str, SessionInputValue<'a>)>;

/// Pairs on each device: while one computes, the inputs of the other are copied.
const PAIRS: usize = 2;

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
        options: &Options,
    ) -> Result<Self> {
        if !options.devices.is_empty() {
            cuda::load_libraries(library);
        }
        let (environment, precision) = (environment(library)?, options.precision);
        let pair = |device: Option<i32>| {
            let session = |tower| Ok::<_, Error>(Mutex::new(session(environment, tower, options.threads, device)?));
            Ok(Pair {
                vision: session(Tower::vision(config, tensors, precision)?)?,
                text: session(Tower::text(config, tensors, precision)?)?,
            })
        };
        let pairs = match &options.devices[..] {
            [] => vec![pair(None)?],
            devices => devices.repeat(PAIRS).into_iter().map(|device| pair(Some(device))).collect::<Result<_>>()?,
        };
        let pinned = match options.devices.first() {
            Some(&device) => Some(Pinned::new(&pairs[0].vision.lock().expect("no thread has it"), device)?),
            None => None,
        };
        Ok(Self { config: config.clone(), precision, pairs, turn: AtomicUsize::new(0), pinned })
    }

    /// Whether pictures are given as bytes.
    pub(crate) fn take_bytes(&self) -> bool {
        is_half(self.precision)
    }

    /// Bytes of shape (pictures or more, side, side, 3), which `fill` gives → (pictures, dimensions), not normalised.
    pub(crate) fn images_of_bytes(
        &self,
        pictures: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<()>,
    ) -> Result<Tensor> {
        let vision = &self.config.vision_config;
        let (patch, across) = (vision.patch_size, vision.image_size / vision.patch_size);
        let shape = |rows: usize| [rows, across, patch, across, patch, 3];
        let (rows, mut pixels) = match &self.pinned {
            Some(pinned) => (DEVICE_BATCH, pinned.take(shape(DEVICE_BATCH))?),
            None => {
                let bytes = vec![0; shape(pictures).iter().product()];
                (pictures, Value::from_array((shape(pictures).to_vec(), bytes)).map_err(told)?)
            }
        };
        fill(pixels.try_extract_tensor_mut().map_err(told)?.1)?;
        let mut inputs = self.common_of_images(rows)?;
        let grid = vec![rows as i64, (across * across) as i64, vision.hidden_size as i64];
        inputs.push(("grid", value(&[3], grid)?.into()));
        inputs.push(("pixels", SessionInputValue::from(&pixels)));
        let features = self.run(|pair| &pair.vision, inputs, rows)?;
        if let Some(pinned) = &self.pinned {
            pinned.give_back(pixels);
        }
        Ok(features.narrow(0, 0, pictures)?)
    }

    /// Values of shape (pictures, 3, side, side) → (pictures, dimensions), not normalised.
    pub(crate) fn images(&self, values: &[f32], pictures: usize) -> Result<Tensor> {
        let vision = &self.config.vision_config;
        let across = vision.image_size / vision.patch_size;
        let tokens = across * across + 1;
        let width = 3 * vision.patch_size.pow(2);
        let patches = patches(values, vision.image_size, vision.patch_size);
        let mut inputs = self.common_of_images(pictures)?;
        inputs.push(("patches", value(&[pictures, tokens, width], patches)?.into()));
        self.run(|pair| &pair.vision, inputs, pictures)
    }

    fn common_of_images(&self, pictures: usize) -> Result<Inputs<'static>> {
        let vision = &self.config.vision_config;
        let tokens = (vision.image_size / vision.patch_size).pow(2) + 1;
        let ends = (0..pictures).map(|picture| (picture * tokens) as i64).collect();
        self.common(pictures, tokens, vision.hidden_size, ends)
    }

    /// Token ids, each ending with the end token → (texts, dimensions), not normalised.
    pub(crate) fn texts(&self, texts: &[Vec<u32>]) -> Result<Tensor> {
        let text = &self.config.text_config;
        let longest = texts.iter().map(Vec::len).max().unwrap_or(1);
        // A device prepares itself for each shape that it has not seen: a hundred times the work itself.
        let (rows, tokens) = match self.pinned {
            Some(_) => (DEVICE_BATCH, longest.next_multiple_of(8).min(text.max_position_embeddings)),
            None => (texts.len(), longest),
        };
        let mut ids = vec![0i64; rows * tokens];
        for (row, text) in ids.chunks_exact_mut(tokens).zip(texts) {
            row.iter_mut().zip(text).for_each(|(place, &id)| *place = id.into());
        }
        if let Some(id) = ids.iter().find(|&&id| id >= text.vocab_size as i64) {
            let cause = format!("the tokenizer gives {id}, and vocab_size is {}", text.vocab_size);
            return Err(Error::Shape { cause });
        }
        let mut ends: Vec<usize> = texts.iter().map(|ids| end_position(ids, text.eos_token_id)).collect();
        ends.resize(rows, 0);
        let pooled = ends.iter().enumerate().map(|(row, end)| (row * tokens + end) as i64).collect();
        let mut inputs = self.common(rows, tokens, text.hidden_size, pooled)?;
        inputs.push(("ids", value(&[rows, tokens], ids)?.into()));
        inputs.push(("places", value(&[tokens], (0..tokens as i64).collect())?.into()));
        let lengths = ends.iter().map(|&end| end as i32 + 1).collect();
        inputs.push(("lengths", value(&[rows], lengths)?.into()));
        Ok(self.run(|pair| &pair.text, inputs, rows)?.narrow(0, 0, texts.len())?)
    }

    fn common(&self, batch: usize, tokens: usize, width: usize, ends: Vec<i64>) -> Result<Inputs<'static>> {
        let shape = |tokens: usize| value(&[3], vec![batch as i64, tokens as i64, width as i64]);
        Ok(vec![("shape", shape(tokens)?.into()), ("one", shape(1)?.into()), ("ends", value(&[batch], ends)?.into())])
    }

    fn run(&self, tower: fn(&Pair) -> &Mutex<Session>, inputs: Inputs<'_>, batch: usize) -> Result<Tensor> {
        let free = self.pairs.iter().find_map(|pair| tower(pair).try_lock().ok());
        let wait = || {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.pairs.len();
            tower(&self.pairs[turn]).lock().expect("no thread panics with the lock")
        };
        let mut session = free.unwrap_or_else(wait);
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

fn builder(environment: &Environment, threads: Option<usize>) -> Result<SessionBuilder> {
    let threads = threads.or_else(|| std::thread::available_parallelism().ok().map(Into::into)).unwrap_or(1);
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

fn session(
    environment: &Environment,
    mut tower: Tower<'_>,
    threads: Option<usize>,
    device: Option<i32>,
) -> Result<Session> {
    let mut builder = builder(environment, threads)?;
    if let Some(device) = device {
        builder = builder.with_execution_providers([cuda::provider(device)]).map_err(cuda::refused)?;
    }
    for weight in std::mem::take(&mut tower.weights) {
        let value = match weight.values {
            Values::Floats(values) => value(&weight.dimensions, values)?,
            Values::Halves(values) => value(&weight.dimensions, values)?,
            Values::Bfloats(values) => value(&weight.dimensions, values)?,
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
