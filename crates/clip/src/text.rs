//! The text tower.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

use crate::config::{LARGEST, TextConfig};
use crate::transformer::{Encoder, LayerNorm, Linear, Shape};

pub(crate) struct TextTower {
    tokens: Tensor,
    positions: Tensor,
    encoder: Encoder,
    norm_out: LayerNorm,
    projection: Linear,
    eos: u32,
}

impl TextTower {
    pub(crate) fn load(config: &TextConfig, dimensions: usize, vars: &VarBuilder<'_>) -> Result<Self> {
        let model = vars.pp("text_model");
        let embeddings = model.pp("embeddings");
        let small = Init::Randn { mean: 0.0, stdev: 0.02 };
        let width = config.hidden_size;
        let shape = Shape::of_text(config);
        Ok(Self {
            tokens: embeddings.get_with_hints((config.vocab_size, width), "token_embedding.weight", small)?,
            positions: embeddings.get_with_hints(
                (config.max_position_embeddings, width),
                "position_embedding.weight",
                small,
            )?,
            encoder: Encoder::load(&shape, &model.pp("encoder"))?,
            norm_out: LayerNorm::load(width, shape.eps, &model.pp("final_layer_norm"))?,
            projection: Linear::load(width, dimensions, false, &vars.pp("text_projection"))?,
            eos: config.eos_token_id,
        })
    }

    /// Token ids, each ending with the end token → (batch, dimensions), not normalised.
    ///
    /// The batch is as wide as its longest text: the mask is causal, so what stands after the end token changes nothing.
    pub(crate) fn forward(&self, texts: &[Vec<u32>]) -> Result<Tensor> {
        let device = self.tokens.device();
        let batch = texts.len();
        let longest = texts.iter().map(Vec::len).max().unwrap_or(1);
        let mut ids = vec![0u32; batch * longest];
        for (row, text) in texts.iter().enumerate() {
            ids[row * longest..][..text.len()].copy_from_slice(text);
        }
        let ids = Tensor::from_vec(ids, batch * longest, device)?;
        let tokens = self.tokens.index_select(&ids, 0)?.reshape((batch, longest, ()))?;
        let tokens = tokens.broadcast_add(&self.positions.narrow(0, 0, longest)?)?;
        let mask: Vec<f32> = (0..longest)
            .flat_map(|row| (0..longest).map(move |column| if column > row { f32::NEG_INFINITY } else { 0.0 }))
            .collect();
        let mask = Tensor::from_vec(mask, (longest, longest), device)?;
        let tokens = self.norm_out.forward(&self.encoder.forward(tokens, Some(&mask))?)?;
        let ends: Vec<u32> =
            texts.iter().enumerate().map(|(row, text)| (row * longest + end_position(text, self.eos)) as u32).collect();
        let pooled = tokens.reshape((batch * longest, ()))?.index_select(&Tensor::from_vec(ends, batch, device)?, 0)?;
        self.projection.forward(&pooled)
    }
}

/// Where the text ends; see [`TextConfig::eos_token_id`] for the value 2.
pub(crate) fn end_position(text: &[u32], eos: u32) -> usize {
    let found = if eos == LARGEST {
        let largest = text.iter().max();
        text.iter().position(|id| Some(id) == largest)
    } else {
        text.iter().position(|&id| id == eos)
    };
    found.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::end_position;

    #[test]
    fn the_first_end_token_is_pooled() {
        assert_eq!(end_position(&[7, 3, 9, 9], 9), 2);
        assert_eq!(end_position(&[49406, 320, 49407, 49407], 2), 2, "configurations that say 2 mean the largest id");
    }
}
