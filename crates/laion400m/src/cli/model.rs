//! Which model embeds, and on what.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use dataset::Precision;

/// Which CLIP, and who computes it.
#[derive(Debug, Args)]
pub(crate) struct Model {
    /// `tiny`, which comes with the program; a folder with the files of a CLIP of Hugging Face or OpenCLIP; or one that the
    /// Hugging Face Hub's programs fetched: ViT-B-32, ViT-L-14 and others by name, any as hf:OWNER/NAME
    #[arg(long, default_value = "tiny")]
    pub(crate) model: String,
    /// On a processor 8 bits cost six tenths and come close; all but float32 need ONNX Runtime [default: float32, and
    /// float16 with CUDA]
    #[arg(long, value_parser = PossibleValuesParser::new(Precision::ALL.map(Precision::name)).map(precision))]
    pub(crate) precision: Option<Precision>,
    #[command(flatten)]
    pub(crate) computer: Computer,
}

/// Who computes.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Computer {
    /// ONNX Runtime's library, or a folder that has it, as its Python package has in `capi` [default: where ORT_DYLIB_PATH
    /// or the active Python environment has it, for all models but tiny]
    #[arg(long, value_name = "PATH")]
    pub(crate) onnxruntime: Option<PathBuf>,
    /// Who computes: cpu; cuda, the first device of NVIDIA's; or cuda:0,1 for these, for which ONNX Runtime is to be the
    /// package onnxruntime-gpu
    #[arg(long, default_value = "cpu", value_parser = devices)]
    pub(crate) device: Devices,
}

fn precision(name: String) -> Precision {
    Precision::ALL.into_iter().find(|precision| precision.name() == name).unwrap_or_default()
}

/// Numbers of CUDA devices; none: the processor.
#[derive(Clone, Debug, Default)]
pub(crate) struct Devices(pub(crate) Vec<i32>);

fn devices(told: &str) -> Result<Devices, String> {
    let numbers = match told.split_once(':') {
        None if told == "cpu" => Vec::new(),
        None if told == "cuda" => vec![0],
        Some(("cuda", numbers)) => numbers
            .split(',')
            .map(|number| number.parse::<u8>().ok().map(i32::from))
            .collect::<Option<_>>()
            .unwrap_or_default(),
        _ => Vec::new(),
    };
    if numbers.is_empty() && told != "cpu" {
        Err("it is cpu, cuda, or cuda: and numbers".into())
    } else {
        Ok(Devices(numbers))
    }
}
