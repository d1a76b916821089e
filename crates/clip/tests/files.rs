//! What a model folder may hold, and what is said of one that holds something else.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor, safetensors};
use clip::{Clip, Config};
use dataset::{Embedder, Pixels};
use fs_err as fs;

#[path = "common/random.rs"]
mod random;

const TOKENIZER: &[u8] = include_bytes!("../models/tiny/tokenizer.json");

/// Small, and with every number unlike the others, so that none can stand for another.
fn config() -> Config {
    let mut config = Config { projection_dim: 24, ..Config::default() };
    let (text, vision) = (&mut config.text_config, &mut config.vision_config);
    (text.hidden_size, text.intermediate_size, text.num_hidden_layers, text.num_attention_heads) = (48, 192, 2, 4);
    (text.vocab_size, text.max_position_embeddings, text.eos_token_id) = (600, 20, 2);
    (vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers, vision.num_attention_heads) =
        (64, 256, 3, 2);
    (vision.image_size, vision.patch_size) = (32, 8);
    config
}

fn write(folder: &Path, config: &Config, weights: &HashMap<String, Tensor>) {
    fs::write(folder.join("config.json"), serde_json::to_vec(config).expect("JSON")).expect("a file");
    fs::write(folder.join("tokenizer.json"), TOKENIZER).expect("a file");
    safetensors::save(weights, folder.join("model.safetensors")).expect("a file");
}

fn embeddings(folder: &Path) -> Vec<Vec<f32>> {
    let clip = Clip::open(folder).expect("a model");
    let rgb = (0..40 * 30 * 3).map(|at| (at * at % 251) as u8).collect();
    let images = clip.images(&[Pixels::new(40, 30, rgb).expect("full size")]).expect("embeddable");
    let texts = clip.texts(&["a red circle", "two blue squares on the left"]).expect("embeddable");
    images.into_iter().chain(texts).map(|embedding| embedding.values().to_vec()).collect()
}

/// Hugging Face's weights under OpenCLIP's names: projections the other way round, query, key and value as one.
fn as_open_clip(weights: &HashMap<String, Tensor>) -> HashMap<String, Tensor> {
    let mut renamed = HashMap::new();
    for (name, tensor) in weights {
        if name.contains("k_proj") || name.contains("v_proj") {
            continue;
        }
        let mut tensor = tensor.clone();
        if let Some((layer, kind)) = name.split_once("q_proj.") {
            let parts = ["q_proj", "k_proj", "v_proj"].map(|part| &weights[&format!("{layer}{part}.{kind}")]);
            tensor = Tensor::cat(&parts, 0).expect("three of one shape");
        }
        if name.ends_with("_projection.weight") {
            tensor = tensor.t().and_then(|turned| turned.contiguous()).expect("a matrix");
        }
        let new = [
            ("vision_model.embeddings.patch_embedding", "visual.conv1"),
            ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
            ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
            ("vision_model.pre_layrnorm", "visual.ln_pre"),
            ("vision_model.post_layernorm", "visual.ln_post"),
            ("visual_projection.weight", "visual.proj"),
            ("vision_model.encoder.layers", "visual.transformer.resblocks"),
            ("text_model.embeddings.token_embedding", "token_embedding"),
            ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
            ("text_model.final_layer_norm", "ln_final"),
            ("text_projection.weight", "text_projection"),
            ("text_model.encoder.layers", "transformer.resblocks"),
            ("self_attn.q_proj.", "attn.in_proj_"),
            ("self_attn.out_proj", "attn.out_proj"),
            ("layer_norm1", "ln_1"),
            ("layer_norm2", "ln_2"),
            ("mlp.fc1", "mlp.c_fc"),
            ("mlp.fc2", "mlp.c_proj"),
        ];
        renamed.insert(new.iter().fold(name.clone(), |name, (old, new)| name.replace(old, new)), tensor);
    }
    renamed
}

#[test]
fn a_model_is_the_same_by_open_clips_names() {
    let (hugging_face, open_clip) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let weights = random::weights(&config(), 5);
    write(hugging_face.path(), &config(), &weights);
    let described = serde_json::json!({
        "model_cfg": {
            "embed_dim": 24,
            "quick_gelu": true,
            "vision_cfg": {"image_size": 32, "layers": 3, "width": 64, "head_width": 32, "patch_size": 8},
            "text_cfg": {"context_length": 20, "vocab_size": 600, "width": 48, "heads": 4, "layers": 2},
        },
        "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
    });
    let preprocessor = serde_json::json!({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]});
    fs::write(hugging_face.path().join("preprocessor_config.json"), preprocessor.to_string()).expect("a file");
    fs::write(open_clip.path().join("open_clip_config.json"), described.to_string()).expect("a file");
    fs::write(open_clip.path().join("tokenizer.json"), TOKENIZER).expect("a file");
    safetensors::save(&as_open_clip(&weights), open_clip.path().join("open_clip_model.safetensors")).expect("a file");
    assert_eq!(embeddings(hugging_face.path()), embeddings(open_clip.path()));
    fs::remove_file(hugging_face.path().join("preprocessor_config.json")).expect("a file");
    assert_ne!(embeddings(hugging_face.path())[0], embeddings(open_clip.path())[0], "other colours");
}

#[test]
fn what_is_wrong_with_a_folder_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    let told = |what: &str, parts: &[&str]| {
        let error = Clip::open(path).expect_err(what).to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{what}: {error}");
    };
    told("an empty folder", &["config.json"]);
    let weights = random::weights(&config(), 5);
    write(path, &config(), &weights);
    Clip::open(path).expect("a model");

    fs::remove_file(path.join("tokenizer.json")).expect("a file");
    told("no tokenizer", &["tokenizer.json"]);
    fs::write(path.join("tokenizer.json"), "{}").expect("a file");
    told("no tokenizer in the file", &["tokenizer"]);
    write(path, &config(), &weights);

    let name = "text_model.encoder.layers.1.mlp.fc1.bias";
    let mut damaged = weights.clone();
    let mut values = vec![0.5f32; 192];
    values[7] = f32::NAN;
    damaged.insert(name.into(), Tensor::from_vec(values, 192, &Device::Cpu).expect("values"));
    write(path, &config(), &damaged);
    told("a weight that is no number", &["model.safetensors", name, "not finite"]);

    damaged.remove(name);
    write(path, &config(), &damaged);
    told("a weight that is missing", &[name]);

    let mut other = config();
    other.vision_config.patch_size = 16;
    write(path, &other, &weights);
    told("another shape", &["patch_embedding", "[64, 3, 16, 16]"]);
    other.vision_config.patch_size = 7;
    write(path, &other, &weights);
    told("no whole number of patches", &["patch_size"]);
    fs::write(path.join("config.json"), "[1, 2").expect("a file");
    told("no JSON", &["config.json"]);

    write(path, &config(), &weights);
    let whole = fs::read(path.join("model.safetensors")).expect("a file");
    fs::write(path.join("model.safetensors"), &whole[..whole.len() / 2]).expect("a file");
    told("half a file", &["model.safetensors"]);
    fs::remove_file(path.join("model.safetensors")).expect("a file");
    told("no weights", &["model.safetensors", "pytorch_model.bin"]);
    fs::write(path.join("pytorch_model.bin"), b"no pickle").expect("a file");
    told("no weights in the file", &["pytorch_model.bin"]);
}
