//! The towers as ONNX graphs, from the same weights that candle's are made of.
//!
//! Both graphs take `shape` (pictures or texts, tokens, width), `one` (the same with one token) and `ends`, the row of
//! each token that is pooled among all tokens. Of the last block only those rows are computed, a fifteenth of all work.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};

use super::proto::{Attribute, Element, Graph, MICROSOFT};
use crate::Precision;
use crate::config::{Activation, Config};
use crate::error::Result;
use crate::transformer::Shape;

/// A weight as the runtime wants it: its name, its dimensions, its values.
pub(super) struct Weight {
    pub(super) name: String,
    pub(super) dimensions: Vec<usize>,
    pub(super) values: Values,
}

pub(super) enum Values {
    Floats(Vec<f32>),
    Halves(Vec<f16>),
    Bfloats(Vec<bf16>),
    Bytes(Vec<i8>),
}

/// A graph, and the weights that belong to it.
pub(super) struct Tower<'a> {
    graph: Graph,
    pub(super) weights: Vec<Weight>,
    tensors: &'a HashMap<String, Tensor>,
    precision: Precision,
}

pub(super) fn is_half(precision: Precision) -> bool {
    element(precision) != Element::Float
}

/// What is computed with, products of bytes aside.
fn element(precision: Precision) -> Element {
    match precision {
        Precision::Float32 | Precision::Int8 => Element::Float,
        Precision::Float16 => Element::Float16,
        Precision::Bfloat16 => Element::Bfloat16,
    }
}

impl<'a> Tower<'a> {
    fn new(tensors: &'a HashMap<String, Tensor>, precision: Precision) -> Self {
        Self { graph: Graph::default(), weights: Vec::new(), tensors, precision }
    }

    /// The image tower. For a processor: `patches` (pictures, tokens, values of a patch), of which the first patch is 0
    /// and stands for the class token. In 16 bits: `pixels` (pictures, side / patch, patch, side / patch, patch, 3) as
    /// bytes, for what goes to another device should be small, and `grid` (pictures, patches, width).
    pub(super) fn vision(config: &Config, tensors: &'a HashMap<String, Tensor>, precision: Precision) -> Result<Self> {
        let vision = &config.vision_config;
        let width = vision.hidden_size;
        let mut tower = Self::new(tensors, precision);
        tower.common_inputs();
        let positions = tower.tensor("vision_model.embeddings.position_embedding.weight")?;
        let class = tower.tensor("vision_model.embeddings.class_embedding")?.reshape((1, width))?;
        let first = (positions.narrow(0, 0, 1)? + class)?;
        let rest = positions.narrow(0, 1, positions.dim(0)? - 1)?;
        let positions = tower.add("positions", &Tensor::cat(&[first, rest], 0)?)?;
        let tokens =
            if is_half(precision) { tower.tokens_of_pixels(config)? } else { tower.tokens_of_patches(config)? };
        let tokens = tower.graph.node("", "Add", &[&tokens, &positions], &[]);
        let shape = Shape::of_vision(vision);
        let tokens = tower.norm(&tokens, "vision_model.pre_layrnorm", &shape)?;
        let pooled = tower.encoder(&tokens, "vision_model.encoder", &shape, false)?;
        tower.finish(&pooled, "vision_model.post_layernorm", "visual_projection", &shape, config.projection_dim)?;
        Ok(tower)
    }

    /// Products of patches with the kernel: (pictures, tokens, width), 0 for the class token.
    fn tokens_of_patches(&mut self, config: &Config) -> Result<String> {
        let vision = &config.vision_config;
        let values = 3 * vision.patch_size.pow(2);
        self.graph.input("patches", Element::Float, &[None, None, Some(values)]);
        let kernel = self.tensor("vision_model.embeddings.patch_embedding.weight")?;
        let kernel = kernel.reshape((vision.hidden_size, values))?;
        if self.precision == Precision::Int8 {
            let (bytes, scales) = self.add_bytes("patches.weight", &kernel)?;
            return Ok(self.graph.node(MICROSOFT, "DynamicQuantizeMatMul", &["patches", &bytes, &scales], &[]));
        }
        let kernel = self.add("patches.weight", &kernel.t()?)?;
        Ok(self.graph.node("", "MatMul", &["patches", &kernel], &[]))
    }

    /// The same from bytes, which are cut into patches and normalised here.
    fn tokens_of_pixels(&mut self, config: &Config) -> Result<String> {
        let vision = &config.vision_config;
        let (width, patch) = (vision.hidden_size, vision.patch_size);
        let across = vision.image_size / patch;
        let dimensions = [None, Some(across), Some(patch), Some(across), Some(patch), Some(3)];
        self.graph.input("pixels", Element::Uint8, &dimensions);
        self.graph.input("grid", Element::Int64, &[Some(3)]);
        let (mean, deviation) = (config.normalization.mean, config.normalization.deviation);
        let values = |of: fn(f32, f32) -> f32| {
            let values = [0, 1, 2].map(|channel| of(mean[channel], deviation[channel]));
            Tensor::new(&values, &Device::Cpu)
        };
        let factors = self.add("pixels.factors", &values(|_, deviation| 1.0 / (255.0 * deviation))?)?;
        let offsets = self.add("pixels.offsets", &values(|mean, deviation| -mean / deviation)?)?;
        let kernel = self.tensor("vision_model.embeddings.patch_embedding.weight")?.permute((2, 3, 1, 0))?;
        let kernel = self.add("patches.weight", &kernel.reshape((3 * patch * patch, width))?)?;
        let zero = self.add("class", &Tensor::zeros((1, 1, width), DType::F32, &Device::Cpu)?)?;
        let graph = &mut self.graph;
        let cut = graph.node("", "Transpose", &["pixels"], &[("perm", Attribute::Ints(&[0, 1, 3, 2, 4, 5]))]);
        let cut = graph.node("", "Cast", &[&cut], &[("to", Attribute::Int(element(self.precision) as i64))]);
        let cut = graph.node("", "Mul", &[&cut, &factors], &[]);
        let cut = graph.node("", "Add", &[&cut, &offsets], &[]);
        let cut = graph.node("", "Flatten", &[&cut], &[("axis", Attribute::Int(3))]);
        let tokens = graph.node("", "MatMul", &[&cut, &kernel], &[]);
        let tokens = graph.node("", "Reshape", &[&tokens, "grid"], &[]);
        let class = graph.node("", "Expand", &[&zero, "one"], &[]);
        Ok(graph.node("", "Concat", &[&class, &tokens], &[("axis", Attribute::Int(1))]))
    }

    /// The text tower: `ids` (texts, tokens), `places`, the numbers from 0 to tokens, and `lengths`, how many tokens of
    /// each text count.
    pub(super) fn text(config: &Config, tensors: &'a HashMap<String, Tensor>, precision: Precision) -> Result<Self> {
        let mut tower = Self::new(tensors, precision);
        tower.graph.input("ids", Element::Int64, &[None, None]);
        tower.graph.input("places", Element::Int64, &[None]);
        tower.graph.input("lengths", Element::Int32, &[None]);
        tower.common_inputs();
        let table = tower.named("text_model.embeddings.token_embedding.weight")?;
        let positions = tower.named("text_model.embeddings.position_embedding.weight")?;
        let tokens = tower.graph.node("", "Gather", &[&table, "ids"], &[]);
        let positions = tower.graph.node("", "Gather", &[&positions, "places"], &[]);
        let tokens = tower.graph.node("", "Add", &[&tokens, &positions], &[]);
        let shape = Shape::of_text(&config.text_config);
        let pooled = tower.encoder(&tokens, "text_model.encoder", &shape, true)?;
        tower.finish(&pooled, "text_model.final_layer_norm", "text_projection", &shape, config.projection_dim)?;
        Ok(tower)
    }

    pub(super) fn model(&self) -> Vec<u8> {
        self.graph.model()
    }

    fn common_inputs(&mut self) {
        self.graph.input("shape", Element::Int64, &[Some(3)]);
        self.graph.input("one", Element::Int64, &[Some(3)]);
        self.graph.input("ends", Element::Int64, &[None]);
    }

    /// Tokens of shape (batch, tokens, width) to pooled ones of shape (batch, width).
    fn encoder(&mut self, tokens: &str, name: &str, shape: &Shape, causal: bool) -> Result<String> {
        // Products of matrices with a bias are one operator for two dimensions.
        let mut tokens = self.graph.node("", "Flatten", &[tokens], &[("axis", Attribute::Int(2))]);
        for layer in 0..shape.layers {
            tokens =
                self.block(&tokens, &format!("{name}.layers.{layer}"), shape, causal, layer + 1 == shape.layers)?;
        }
        Ok(tokens)
    }

    fn block(&mut self, tokens: &str, name: &str, shape: &Shape, causal: bool, last: bool) -> Result<String> {
        let bytes = self.precision == Precision::Int8;
        let seen = self.norm(tokens, &format!("{name}.layer_norm1"), shape)?;
        let (asking, kept) = if last {
            let ends = |tower: &mut Self, all: &str| tower.graph.node("", "Gather", &[all, "ends"], &[]);
            (ends(self, &seen), ends(self, tokens))
        } else {
            (seen.clone(), tokens.to_owned())
        };
        let mut heads = Vec::new();
        for (part, of, form) in
            [("q", &asking, if last { "one" } else { "shape" }), ("k", &seen, "shape"), ("v", &seen, "shape")]
        {
            let product = self.linear(of, &format!("{name}.self_attn.{part}_proj"), bytes)?;
            heads.push(self.graph.node("", "Reshape", &[&product, form], &[]));
        }
        let mut inputs: Vec<&str> = heads.iter().map(String::as_str).collect();
        if causal && last {
            inputs.extend(["", "lengths"]); // every one of them asks from the end of its text
        }
        let attributes = [
            ("num_heads", Attribute::Int(shape.heads as i64)),
            ("unidirectional", Attribute::Int((causal && !last).into())),
        ];
        let mixed = self.graph.node(MICROSOFT, "MultiHeadAttention", &inputs, &attributes);
        let mixed = self.graph.node("", "Flatten", &[&mixed], &[("axis", Attribute::Int(2))]);
        // The first tokens of a text mix few others and are far larger than the rest, of which bytes of one scale would
        // leave little: with them the least cosine of 500 texts was 0.9989, without 0.9993.
        let bytes = self.precision == Precision::Int8 && !causal;
        let mixed = self.linear(&mixed, &format!("{name}.self_attn.out_proj"), bytes)?;
        let tokens = self.graph.node("", "Add", &[&kept, &mixed], &[]);
        let hidden = self.norm(&tokens, &format!("{name}.layer_norm2"), shape)?;
        let hidden = self.linear(&hidden, &format!("{name}.mlp.fc1"), bytes)?;
        let hidden = match shape.activation {
            Activation::QuickGelu => {
                self.graph.node(MICROSOFT, "QuickGelu", &[&hidden], &[("alpha", Attribute::Float(1.702))])
            }
            Activation::Gelu => self.graph.node(MICROSOFT, "Gelu", &[&hidden], &[]),
        };
        let hidden = self.linear(&hidden, &format!("{name}.mlp.fc2"), bytes)?;
        Ok(self.graph.node("", "Add", &[&tokens, &hidden], &[]))
    }

    fn finish(&mut self, pooled: &str, norm: &str, projection: &str, shape: &Shape, dimensions: usize) -> Result<()> {
        let pooled = self.norm(pooled, norm, shape)?;
        let projection = self.named(&format!("{projection}.weight"))?;
        let features = self.graph.node("", "Gemm", &[&pooled, &projection], &[("transB", Attribute::Int(1))]);
        self.graph.node_into("", "Cast", &[&features], &[("to", Attribute::Int(Element::Float as i64))], "features");
        self.graph.output("features", &[None, Some(dimensions)]);
        Ok(())
    }

    fn norm(&mut self, tokens: &str, name: &str, shape: &Shape) -> Result<String> {
        let (weight, bias) = (self.named(&format!("{name}.weight"))?, self.named(&format!("{name}.bias"))?);
        let eps = ("epsilon", Attribute::Float(shape.eps as f32));
        Ok(self.graph.node("", "LayerNormalization", &[tokens, &weight, &bias], &[eps]))
    }

    /// With a bias; the weights as bytes or as they are.
    fn linear(&mut self, rows: &str, name: &str, bytes: bool) -> Result<String> {
        let bias = self.named(&format!("{name}.bias"))?;
        if !bytes {
            let weight = self.named(&format!("{name}.weight"))?;
            return Ok(self.graph.node("", "Gemm", &[rows, &weight, &bias], &[("transB", Attribute::Int(1))]));
        }
        let name = format!("{name}.weight");
        let (bytes, scales) = self.add_bytes(&name, &self.tensor(&name)?)?;
        Ok(self.graph.node(MICROSOFT, "DynamicQuantizeMatMul", &[rows, &bytes, &scales, "", &bias], &[]))
    }

    fn tensor(&self, name: &str) -> Result<Tensor> {
        let missing = || candle_core::Error::CannotFindTensor { path: name.into() };
        Ok(self.tensors.get(name).ok_or_else(missing)?.clone())
    }

    /// A weight of the model as it is.
    fn named(&mut self, name: &str) -> Result<String> {
        let tensor = self.tensor(name)?;
        self.add(name, &tensor)
    }

    fn add(&mut self, name: &str, tensor: &Tensor) -> Result<String> {
        let values = tensor.flatten_all()?;
        let values = match self.precision {
            Precision::Float32 | Precision::Int8 => Values::Floats(values.to_vec1()?),
            Precision::Float16 => Values::Halves(values.to_dtype(DType::F16)?.to_vec1()?),
            Precision::Bfloat16 => Values::Bfloats(values.to_dtype(DType::BF16)?.to_vec1()?),
        };
        Ok(self.push(name, tensor.dims().to_vec(), values))
    }

    /// A matrix of shape (out, in) as bytes of shape (in, out) with a scale for each output.
    ///
    /// AVX2 multiplies an activation, 0 to 255, with a weight, and adds two such products in 16 bits (ONNX Runtime,
    /// "Quantize ONNX models", which therefore has `reduce_range`: all weights in 7 bits). What must fit is the sum: the
    /// scale is the finest with which no two neighbours overflow, which leaves most rows nearly 8 bits.
    fn add_bytes(&mut self, name: &str, matrix: &Tensor) -> Result<(String, String)> {
        // 128 * 255 fits, and rounding both may add 1.
        const MOST: f32 = 127.0;
        let matrix: Vec<Vec<f32>> = matrix.to_vec2()?;
        let reach = |pair: &[f32]| {
            let sum = |sign: f32| pair.iter().map(|value| (sign * value).max(0.0)).sum::<f32>();
            sum(1.0).max(sum(-1.0))
        };
        let scale = |row: &Vec<f32>| row.chunks(2).map(reach).fold(f32::MIN_POSITIVE, f32::max) / MOST;
        let scales: Vec<f32> = matrix.iter().map(scale).collect();
        let (outputs, inputs) = (matrix.len(), matrix.first().map_or(0, Vec::len));
        let mut bytes = vec![0; inputs * outputs];
        for (output, (row, scale)) in matrix.iter().zip(&scales).enumerate() {
            for (input, value) in row.iter().enumerate() {
                bytes[input * outputs + output] = (value / scale).round() as i8;
            }
        }
        let scales = self.push(&format!("{name}.scales"), vec![outputs], Values::Floats(scales));
        Ok((self.push(name, vec![inputs, outputs], Values::Bytes(bytes)), scales))
    }

    fn push(&mut self, name: &str, dimensions: Vec<usize>, values: Values) -> String {
        let element = match values {
            Values::Floats(_) => Element::Float,
            Values::Halves(_) => Element::Float16,
            Values::Bfloats(_) => Element::Bfloat16,
            Values::Bytes(_) => Element::Int8,
        };
        self.graph.weight(name, element, &dimensions);
        self.weights.push(Weight { name: name.into(), dimensions, values });
        name.into()
    }
}
