//! The blocks both towers are made of.

use candle_core::{D, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use crate::config::{Activation, TextConfig, VisionConfig};

/// The shape of one tower.
pub(crate) struct Shape {
    pub(crate) width: usize,
    pub(crate) mlp: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) activation: Activation,
    pub(crate) eps: f64,
}

impl Shape {
    pub(crate) fn of_vision(config: &VisionConfig) -> Self {
        Self {
            width: config.hidden_size,
            mlp: config.intermediate_size,
            layers: config.num_hidden_layers,
            heads: config.num_attention_heads,
            activation: config.hidden_act,
            eps: config.layer_norm_eps,
        }
    }

    pub(crate) fn of_text(config: &TextConfig) -> Self {
        Self {
            width: config.hidden_size,
            mlp: config.intermediate_size,
            layers: config.num_hidden_layers,
            heads: config.num_attention_heads,
            activation: config.hidden_act,
            eps: config.layer_norm_eps,
        }
    }
}

/// `x W^T + b`, with a weight of shape (out, in).
pub(crate) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    pub(crate) fn load(input: usize, output: usize, bias: bool, vars: &VarBuilder<'_>) -> Result<Self> {
        let init = Init::Randn { mean: 0.0, stdev: (input as f64).powf(-0.5) };
        let weight = vars.get_with_hints((output, input), "weight", init)?;
        let bias = bias.then(|| vars.get_with_hints(output, "bias", Init::Const(0.0))).transpose()?;
        Ok(Self { weight, bias })
    }

    /// `xs` of shape (…, in); one flat matrix product whatever the leading dimensions.
    pub(crate) fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let mut shape = xs.dims().to_vec();
        let input = shape.pop().unwrap_or(0);
        let ys = xs.reshape(((), input))?.matmul(&self.weight.t()?)?;
        shape.push(ys.dim(1)?);
        let ys = match &self.bias {
            Some(bias) => ys.broadcast_add(bias)?,
            None => ys,
        };
        ys.reshape(shape)
    }
}

/// Mean 0 and variance 1 over the last dimension, then scale and shift.
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    pub(crate) fn load(width: usize, eps: f64, vars: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            weight: vars.get_with_hints(width, "weight", Init::Const(1.0))?,
            bias: vars.get_with_hints(width, "bias", Init::Const(0.0))?,
            eps,
        })
    }

    pub(crate) fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        if !self.weight.is_variable() {
            return candle_nn::ops::layer_norm(&xs.contiguous()?, &self.weight, &self.bias, self.eps as f32);
        }
        // The fused operation has no gradient.
        let centred = xs.broadcast_sub(&xs.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let unit = centred.broadcast_div(&(variance + self.eps)?.sqrt()?)?;
        unit.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)
    }
}

/// Pre-norm attention and MLP, each added to the residual stream.
struct Block {
    norm1: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: usize,
    activation: Activation,
    training: bool,
}

impl Block {
    fn load(shape: &Shape, vars: &VarBuilder<'_>) -> Result<Self> {
        let width = shape.width;
        let attention = vars.pp("self_attn");
        let norm1 = LayerNorm::load(width, shape.eps, &vars.pp("layer_norm1"))?;
        let training = norm1.weight.is_variable();
        Ok(Self {
            norm1,
            query: Linear::load(width, width, true, &attention.pp("q_proj"))?,
            key: Linear::load(width, width, true, &attention.pp("k_proj"))?,
            value: Linear::load(width, width, true, &attention.pp("v_proj"))?,
            out: Linear::load(width, width, true, &attention.pp("out_proj"))?,
            norm2: LayerNorm::load(width, shape.eps, &vars.pp("layer_norm2"))?,
            fc1: Linear::load(width, shape.mlp, true, &vars.pp("mlp.fc1"))?,
            fc2: Linear::load(shape.mlp, width, true, &vars.pp("mlp.fc2"))?,
            heads: shape.heads,
            activation: shape.activation,
            training,
        })
    }

    /// `xs`: (batch, tokens, width). `mask`: (tokens, tokens), 0 where a row may look and -inf where it may not.
    fn forward(&self, xs: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let xs = (xs + self.attend(&self.norm1.forward(xs)?, mask)?)?;
        let hidden = self.fc1.forward(&self.norm2.forward(&xs)?)?;
        let hidden = match self.activation {
            Activation::QuickGelu => (&hidden * candle_nn::ops::sigmoid(&(&hidden * 1.702)?)?)?,
            Activation::Gelu => hidden.gelu_erf()?,
        };
        &xs + self.fc2.forward(&hidden)?
    }

    fn attend(&self, xs: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let (batch, tokens, width) = xs.dims3()?;
        let head = width / self.heads;
        let split = |ys: Tensor| ys.reshape((batch, tokens, self.heads, head))?.transpose(1, 2)?.contiguous();
        let query = (split(self.query.forward(xs)?)? * (head as f64).powf(-0.5))?;
        let key = split(self.key.forward(xs)?)?;
        let value = split(self.value.forward(xs)?)?;
        let mut scores = query.matmul(&key.t()?)?;
        if let Some(mask) = mask {
            scores = scores.broadcast_add(mask)?;
        }
        let weights = if self.training {
            candle_nn::ops::softmax(&scores, D::Minus1)?
        } else {
            candle_nn::ops::softmax_last_dim(&scores)?
        };
        let mixed = weights.matmul(&value)?.transpose(1, 2)?.reshape((batch, tokens, width))?;
        self.out.forward(&mixed)
    }
}

/// All blocks of a tower.
pub(crate) struct Encoder(Vec<Block>);

impl Encoder {
    pub(crate) fn load(shape: &Shape, vars: &VarBuilder<'_>) -> Result<Self> {
        (0..shape.layers).map(|i| Block::load(shape, &vars.pp(format!("layers.{i}")))).collect::<Result<_>>().map(Self)
    }

    pub(crate) fn forward(&self, xs: Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        self.0.iter().try_fold(xs, |xs, block| block.forward(&xs, mask))
    }
}
