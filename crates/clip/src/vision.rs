//! The image tower.

use candle_core::{IndexOp, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use crate::config::VisionConfig;
use crate::transformer::{Encoder, LayerNorm, Linear, Shape};

pub(crate) struct VisionTower {
    class: Tensor,
    /// The patch convolution as a matrix: its kernel and its stride are equal, so patches do not overlap.
    patches: Tensor,
    positions: Tensor,
    norm_in: LayerNorm,
    encoder: Encoder,
    norm_out: LayerNorm,
    projection: Linear,
    patch: usize,
}

impl VisionTower {
    pub(crate) fn load(config: &VisionConfig, dimensions: usize, vars: &VarBuilder<'_>) -> Result<Self> {
        let (width, patch) = (config.hidden_size, config.patch_size);
        let model = vars.pp("vision_model");
        let embeddings = model.pp("embeddings");
        let small = Init::Randn { mean: 0.0, stdev: 0.02 };
        let count = (config.image_size / patch).pow(2) + 1;
        let fan = Init::Randn { mean: 0.0, stdev: ((3 * patch * patch) as f64).powf(-0.5) };
        let shape = Shape::of_vision(config);
        Ok(Self {
            class: embeddings.get_with_hints(width, "class_embedding", small)?,
            patches: embeddings
                .get_with_hints((width, 3, patch, patch), "patch_embedding.weight", fan)?
                .reshape((width, 3 * patch * patch))?,
            positions: embeddings.get_with_hints((count, width), "position_embedding.weight", small)?,
            norm_in: LayerNorm::load(width, shape.eps, &model.pp("pre_layrnorm"))?, // spelt so in every published file
            encoder: Encoder::load(&shape, &model.pp("encoder"))?,
            norm_out: LayerNorm::load(width, shape.eps, &model.pp("post_layernorm"))?,
            projection: Linear::load(width, dimensions, false, &vars.pp("visual_projection"))?,
            patch,
        })
    }

    /// (batch, 3, side, side) → (batch, dimensions), not normalised.
    pub(crate) fn forward(&self, pixels: &Tensor) -> Result<Tensor> {
        let (batch, channels, side, _) = pixels.dims4()?;
        let (patch, across) = (self.patch, side / self.patch);
        let flat = pixels
            .reshape(vec![batch, channels, across, patch, across, patch])?
            .permute([0, 2, 4, 1, 3, 5].as_slice())?
            .reshape((batch * across * across, channels * patch * patch))?;
        let patches = flat.matmul(&self.patches.t()?)?.reshape((batch, across * across, ()))?;
        let class = self.class.reshape((1, 1, ()))?.broadcast_as((batch, 1, patches.dim(2)?))?;
        let tokens = Tensor::cat(&[&class.contiguous()?, &patches], 1)?.broadcast_add(&self.positions)?;
        let tokens = self.encoder.forward(self.norm_in.forward(&tokens)?, None)?;
        self.projection.forward(&self.norm_out.forward(&tokens.i((.., 0))?)?)
    }
}
