//! Embeddings are those of `transformers`, of which `data/reference.safetensors` was made (`interop/clip_reference.py`).

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor, safetensors};
use clip::{Clip, Config, Options};
use dataset::picture::pil_square;
use dataset::{Embedder, Embedding, Pixels};

#[path = "common/random.rs"]
mod random;

const SIZES: [(u32, u32); 5] = [(224, 224), (300, 200), (97, 411), (640, 480), (20, 30)];

fn texts() -> [String; 5] {
    let some = ["a red circle", "", "three small yellow stars on the left of a green square, and nothing else"];
    let [circle, nothing, stars] = some.map(String::from);
    [circle, nothing, stars, "ÉTÉ  naïve 漢字 \u{1F600}".into(), "a ".repeat(200)]
}

fn drawn((width, height): (u32, u32)) -> Pixels {
    let pixel = |x: u32, y: u32| [0, 1, 2].map(|c| ((x * x * 3 + y * y * 5 + x * y * (c + 1)) / 64 + c * 50) as u8);
    let rgb = (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y))).collect();
    Pixels::new(width, height, rgb).expect("full size")
}

fn reference() -> HashMap<String, Tensor> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/reference.safetensors");
    safetensors::load(path, &Device::Cpu).expect("the reference")
}

/// The cosines of rows that belong together.
fn cosines(found: &[Embedding], expected: &Tensor) -> Vec<f64> {
    let expected = expected.to_vec2::<f32>().expect("a matrix").into_iter().map(Embedding::normalized);
    let expected: Vec<Embedding> = expected.collect::<Result<_, _>>().expect("directions");
    assert_eq!(found.len(), expected.len());
    found.iter().zip(&expected).map(|(a, b)| a.similarity(b)).collect()
}

fn is_the_reference(clip: &Clip, name: &str) {
    let reference = reference();
    let images = clip.images(&SIZES.map(drawn)).expect("embeddable");
    let found = cosines(&images, &reference[&format!("{name}.images")]);
    assert!(found.iter().all(|&cosine| cosine >= 0.99999), "pictures: {found:?}");
    let texts = texts();
    let texts = clip.texts(&texts.each_ref().map(String::as_str)).expect("embeddable");
    let found = cosines(&texts, &reference[&format!("{name}.texts")]);
    assert!(found.iter().all(|&cosine| cosine >= 0.99999), "texts: {found:?}");
}

#[test]
fn the_included_model_embeds_as_the_reference_does() {
    is_the_reference(&Clip::tiny(), "tiny");
}

#[test]
fn a_model_of_the_size_of_vit_b_32_embeds_as_the_reference_does() {
    let config = Config::default();
    let weights = random::weights(&config, 0);
    let tokenizer = include_bytes!("../models/tiny/tokenizer.json");
    let clip = Clip::from_tensors(config, tokenizer, weights, "random".into(), &Options::default()).expect("a model");
    is_the_reference(&clip, "random");
}

#[test]
fn pictures_are_scaled_as_pil_scales_them() {
    let expected: Vec<u8> = reference()["squares"].flatten_all().and_then(|all| all.to_vec1()).expect("bytes");
    let side = 64;
    for (size, expected) in SIZES.into_iter().zip(expected.chunks_exact(side * side * 3)) {
        let square = pil_square(drawn(size).rgb(), size.0, size.1, side as u32).expect("a picture");
        let unlike = square.iter().zip(expected).filter(|(a, b)| a != b).count();
        assert_eq!(unlike, 0, "{size:?}");
    }
}
