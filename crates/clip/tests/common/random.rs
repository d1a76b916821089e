//! A CLIP of random weights, the same for the same seed everywhere.

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use clip::Config;

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    /// From -1 to 1.
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / 8_388_608.0 - 1.0
    }
}

/// All weights of a model, named as `transformers` names them; large enough that each of them shows in the embeddings.
pub(crate) fn weights(config: &Config, seed: u64) -> HashMap<String, Tensor> {
    let mut random = Random(seed);
    let mut tensors = HashMap::new();
    let mut add = |name: String, shape: &[usize], mean: f32, spread: f32| {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| mean + spread * random.next()).collect();
        tensors.insert(name, Tensor::from_vec(values, shape, &Device::Cpu).expect("as many values as the shape has"));
    };
    let (text, vision, space) = (&config.text_config, &config.vision_config, config.projection_dim);
    let towers = [
        ("text", text.hidden_size, text.intermediate_size, text.num_hidden_layers),
        ("vision", vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers),
    ];
    for (tower, width, mlp, layers) in towers {
        let spread = |inputs: usize| (3.0 / inputs as f32).sqrt();
        for layer in 0..layers {
            let layer = format!("{tower}_model.encoder.layers.{layer}");
            let linears =
                ["q_proj", "k_proj", "v_proj", "out_proj"].map(|name| (format!("self_attn.{name}"), width, width));
            let mlps = [("mlp.fc1".to_owned(), mlp, width), ("mlp.fc2".to_owned(), width, mlp)];
            for (name, outputs, inputs) in linears.into_iter().chain(mlps) {
                add(format!("{layer}.{name}.weight"), &[outputs, inputs], 0.0, spread(inputs));
                add(format!("{layer}.{name}.bias"), &[outputs], 0.0, 0.1);
            }
            for name in ["layer_norm1", "layer_norm2"] {
                add(format!("{layer}.{name}.weight"), &[width], 1.0, 0.2);
                add(format!("{layer}.{name}.bias"), &[width], 0.0, 0.1);
            }
        }
        let norms: &[&str] = if tower == "text" { &["final_layer_norm"] } else { &["pre_layrnorm", "post_layernorm"] };
        for name in norms {
            add(format!("{tower}_model.{name}.weight"), &[width], 1.0, 0.2);
            add(format!("{tower}_model.{name}.bias"), &[width], 0.0, 0.1);
        }
        let projection = if tower == "text" { "text_projection" } else { "visual_projection" };
        add(format!("{projection}.weight"), &[space, width], 0.0, spread(width));
    }
    let (patch, places) = (vision.patch_size, (vision.image_size / vision.patch_size).pow(2) + 1);
    add("vision_model.embeddings.class_embedding".into(), &[vision.hidden_size], 0.0, 1.0);
    add("vision_model.embeddings.position_embedding.weight".into(), &[places, vision.hidden_size], 0.0, 0.5);
    let kernel = [vision.hidden_size, 3, patch, patch];
    add("vision_model.embeddings.patch_embedding.weight".into(), &kernel, 0.0, (1.0 / (patch * patch) as f32).sqrt());
    add("text_model.embeddings.token_embedding.weight".into(), &[text.vocab_size, text.hidden_size], 0.0, 1.0);
    let positions = [text.max_position_embeddings, text.hidden_size];
    add("text_model.embeddings.position_embedding.weight".into(), &positions, 0.0, 0.5);
    add("logit_scale".into(), &[], 4.6052, 0.0);
    tensors
}
