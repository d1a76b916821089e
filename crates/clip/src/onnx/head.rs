//! A head in ONNX Runtime: any network that gives a row of numbers a score.

use std::path::Path;
use std::sync::Mutex;

use ort::session::Session;
use ort::value::{TensorElementType, ValueType};

use super::{builder, environment, told, value};
use crate::error::{Error, Result};
use crate::head::takes;

/// A network from float32 (rows, dimensions) to float32 (rows, 1) or (rows).
pub(crate) struct Head {
    session: Mutex<Session>,
    input: String,
    /// Dimensions, unless the file leaves them open.
    width: Option<usize>,
}

impl Head {
    /// `bytes` are those of an ONNX file.
    pub(crate) fn new(library: &Path, bytes: &[u8]) -> Result<Self> {
        let session = builder(environment(library)?, None)?.commit_from_memory(bytes).map_err(told)?;
        let [input] = session.inputs() else { return Err(wrong(format!("it has {} inputs", session.inputs().len()))) };
        let [_] = session.outputs() else { return Err(wrong(format!("it has {} outputs", session.outputs().len()))) };
        let width = match input.dtype() {
            ValueType::Tensor { ty: TensorElementType::Float32, shape, .. } if shape.len() == 2 => shape[1],
            other => return Err(wrong(format!("it takes {other}"))),
        };
        let (input, width) = (input.name().to_owned(), usize::try_from(width).ok());
        Ok(Self { session: Mutex::new(session), input, width })
    }

    /// The scores of rows of so many numbers.
    pub(crate) fn scores(&self, values: Vec<f32>, width: usize) -> Result<Vec<f32>> {
        if let Some(expected) = self.width.filter(|&expected| expected != width) {
            return Err(takes(expected, width));
        }
        let rows = values.len() / width;
        let mut session = self.session.lock().expect("no thread panics with the lock");
        let outputs = session.run(vec![(self.input.as_str(), value(&[rows, width], values)?)]).map_err(told)?;
        let (shape, scores) = outputs[0].try_extract_tensor::<f32>().map_err(told)?;
        if scores.len() == rows {
            Ok(scores.to_vec())
        } else {
            Err(wrong(format!("it gives {shape:?} for {rows} rows")))
        }
    }
}

fn wrong(what: String) -> Error {
    Error::Runtime(format!("{what}; a head takes float32 (rows, dimensions) and gives float32 (rows, 1)"))
}
