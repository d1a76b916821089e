//! Trains the small CLIP that comes with the program, on drawn scenes, and measures it on scenes it has not seen.
//!
//! `cargo run --release -p clip --example train_tiny` writes `crates/clip/models/tiny/`; `-- --check` only measures
//! what is there. Two CPU cores need about an hour. The report at the end belongs in `docs/log.md`.

use std::io::Cursor;
use std::path::PathBuf;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use candle_core::safetensors::save;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, VarBuilder, VarMap, loss};
use clip::{Activation, Clip, Config, TextConfig, VisionConfig};
use dataset::{Embedder, Embedding, Pixels};
use miniweb::{Group, Random, Scene, Shape, draw};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::tokenizer::{AddedToken, SplitDelimiterBehavior, TokenizerBuilder, TokenizerImpl};

/// The worlds: what is trained on, what is measured on. The demo's own is neither.
const TRAINING_SEED: u64 = 0x7EAC;
const HELD_OUT_SEED: u64 = 0x0DD5;
/// The recipe's threshold, at which the model has to tell matched from mismatched pairs.
const THRESHOLD: f64 = 0.3;
const BATCH: usize = 128;
const STEPS: usize = 2600;
const WARM_UP: usize = 100;
const RATE: f64 = 1e-3;

/// Prompts of the filter's NSFW tag (`docs/recipe.md`): every scene is a drawing and none is explicit, and a model
/// that had never read these words would call them by chance.
const DRAWING: [&str; 3] = ["illustration, drawing", "drawing, painting", "neutral"];
const OTHER: [&str; 8] = [
    "porn, sex, sperm, nipples",
    "penis, dick, cock",
    "clitoris, vagina",
    "sex, fuck, lust, horny, sexual, lick, licking",
    "sexy, hot",
    "lick, licking, body",
    "hentai",
    "anime, sexy, breasts",
];

type Anyhow<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[allow(clippy::print_stdout)]
fn main() -> Anyhow<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/tiny");
    let number = |name: &str, default: usize| {
        arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1)?.parse().ok()).unwrap_or(default)
    };
    let started = Instant::now();
    if !arguments.iter().any(|argument| argument == "--check") {
        train(&folder, number("--steps", STEPS))?;
    }
    let clip = Clip::open(&folder)?;
    let bytes = fs_err::metadata(folder.join("model.safetensors"))?.len();
    println!("model.safetensors: {bytes} bytes, fingerprint {}", clip.fingerprint());
    println!(
        "seeds: training {TRAINING_SEED:#x}, held-out {HELD_OUT_SEED:#x}; {:.0} s",
        started.elapsed().as_secs_f64()
    );
    measure(&clip, 20)
}

#[allow(clippy::print_stdout)]
fn train(folder: &std::path::Path, steps: usize) -> Anyhow<()> {
    // Its trainer numbers tokens that are equally frequent by chance: a tokenizer that is there stays.
    let vocabulary = folder.join("tokenizer.json");
    let tokenizer =
        if vocabulary.exists() { tokenizers::Tokenizer::from_file(vocabulary)? } else { train_tokenizer()? };
    let json = tokenizer.to_string(false)?;
    let id = |token: &str| tokenizer.token_to_id(token).ok_or("no such token");
    let config = Config {
        projection_dim: 512,
        text_config: TextConfig {
            hidden_size: 128,
            intermediate_size: 512,
            num_hidden_layers: 3,
            num_attention_heads: 4,
            max_position_embeddings: 77,
            vocab_size: tokenizer.get_vocab_size(true),
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
            eos_token_id: id("<|endoftext|>")?,
        },
        vision_config: VisionConfig {
            hidden_size: 128,
            intermediate_size: 512,
            num_hidden_layers: 3,
            num_attention_heads: 4,
            image_size: 60,
            patch_size: 10,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        },
        ..Config::default()
    };
    let vars = VarMap::new();
    let builder = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
    let clip = Clip::load(config.clone(), json.as_bytes(), &builder, String::new())?;
    seed_weights(&vars)?;
    // Starts at the value of the paper, 1 / 0.07 (Radford et al. 2021, section 2.5).
    let scale = Var::new((1.0f32 / 0.07).ln(), &Device::Cpu)?;
    let mut all = vars.all_vars();
    let parameters: usize = all.iter().map(|var| var.elem_count()).sum();
    all.push(scale.clone());
    println!("{parameters} parameters, {} tokens, {steps} steps of {BATCH}", config.text_config.vocab_size);
    let mut optimizer = AdamW::new(all, ParamsAdamW { lr: 0.0, weight_decay: 0.02, ..ParamsAdamW::default() })?;

    let (sender, batches) = sync_channel(4);
    std::thread::spawn(move || {
        for step in 0..steps as u64 {
            let batch: Vec<_> = (0..BATCH as u64).map(|i| sample(TRAINING_SEED, step * BATCH as u64 + i, 96)).collect();
            if sender.send(batch).is_err() {
                return;
            }
        }
    });
    let (started, mut smooth) = (Instant::now(), 0.0);
    for (step, batch) in batches.iter().enumerate() {
        let progress = step as f64 / steps as f64;
        let warm = (step as f64 / WARM_UP as f64).min(1.0);
        optimizer
            .set_learning_rate(RATE * warm * (0.02 + 0.98 * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())));
        let (pictures, captions): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let captions: Vec<&str> = captions.iter().map(String::as_str).collect();
        let images = clip.image_features(&pictures)?;
        let texts = clip.text_features(&captions)?;
        let mut total = contrast(&images, &texts, &scale)?;
        if step % 4 == 0 {
            let prompts: Vec<&str> = DRAWING.iter().chain(&OTHER).copied().collect();
            let cosines = images.matmul(&clip.text_features(&prompts)?.t()?)?;
            let (same, other) = (cosines.narrow(1, 0, DRAWING.len())?, cosines.narrow(1, DRAWING.len(), OTHER.len())?);
            total = (total + (beside(&same, -1.0)? + beside(&other, 1.0)?)? * 0.25)?;
        }
        optimizer.backward_step(&total)?;
        let value = f64::from(total.to_scalar::<f32>()?);
        smooth = if step == 0 { value } else { 0.98 * smooth + 0.02 * value };
        if step % 100 == 99 || step + 1 == steps {
            let spent = started.elapsed().as_secs_f64();
            println!(
                "step {:5}  loss {smooth:.4}  scale {:.1}  {spent:6.0} s",
                step + 1,
                scale.to_scalar::<f32>()?.exp()
            );
        }
    }
    fs_err::create_dir_all(folder)?;
    let mut tensors: std::collections::HashMap<String, Tensor> = std::collections::HashMap::new();
    for (name, var) in vars.data().lock().expect("no other thread").iter() {
        tensors.insert(name.clone(), var.to_dtype(DType::F16)?);
    }
    tensors.insert("logit_scale".into(), scale.to_dtype(DType::F16)?);
    save(&tensors, folder.join("model.safetensors"))?;
    let mut described = serde_json::to_value(&config)?;
    described["model_type"] = "clip".into();
    described["architectures"] = serde_json::json!(["CLIPModel"]);
    described["text_config"]["bos_token_id"] = id("<|startoftext|>")?.into();
    fs_err::write(folder.join("config.json"), serde_json::to_string_pretty(&described)? + "\n")?;
    fs_err::write(folder.join("tokenizer.json"), json)?;
    Ok(())
}

/// Draws every matrix again from the training seed: the library's own generator has none.
fn seed_weights(vars: &VarMap) -> Anyhow<()> {
    let vars = vars.data().lock().expect("no other thread");
    let mut names: Vec<_> = vars.keys().collect();
    names.sort();
    let mut random = Random::new(TRAINING_SEED);
    for name in names {
        let var = &vars[name];
        let table = name.contains("embedding") && !name.contains("patch");
        if var.rank() < 2 && !table {
            continue; // scales and shifts start at 1 and 0
        }
        let fan_in: usize = var.dims().iter().skip(1).product();
        let deviation = if table { 0.02 } else { (fan_in as f32).powf(-0.5) };
        let normal = |random: &mut Random| {
            let radius = (-2.0 * random.unit().max(1e-7).ln()).sqrt();
            deviation * radius * (std::f32::consts::TAU * random.unit()).cos()
        };
        let values: Vec<f32> = (0..var.elem_count()).map(|_| normal(&mut random)).collect();
        var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu)?)?;
    }
    Ok(())
}

/// CLIP's symmetric cross entropy, which orders the pairs, and a sigmoid loss about the threshold, which gives the
/// cosine its absolute meaning (Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training").
fn contrast(images: &Tensor, texts: &Tensor, scale: &Var) -> candle_core::Result<Tensor> {
    let cosines = images.matmul(&texts.t()?)?;
    let logits = cosines.broadcast_mul(&scale.as_tensor().minimum(100f64.ln())?.exp()?)?;
    let size = images.dim(0)?;
    let targets = Tensor::arange(0u32, size as u32, &Device::Cpu)?;
    let order = ((loss::cross_entropy(&logits, &targets)?
        + loss::cross_entropy(&logits.t()?.contiguous()?, &targets)?)?
        * 0.5)?;
    let own = (images * texts)?.sum(1)?;
    let eye = Tensor::eye(size, DType::F32, &Device::Cpu)?;
    // The diagonal is moved far below the threshold, where it costs nothing.
    let others = (cosines - (eye * 4.0)?)?;
    order + (beside(&own, -1.0)? + beside(&others, 1.0)?)?
}

/// The mean cost of cosines on the wrong side of the threshold: `sign` 1 wants them below, -1 above.
fn beside(cosines: &Tensor, sign: f64) -> candle_core::Result<Tensor> {
    let margin = ((cosines - THRESHOLD)? * (16.0 * sign))?;
    (margin.exp()? + 1.0)?.log()?.mean_all()
}

/// A picture and its caption.
fn sample(seed: u64, index: u64, side: u32) -> (Pixels, String) {
    let mut random = Random::of(seed ^ 0xCAFE, index);
    let scene = Scene::new(seed, index);
    let caption = scene.caption(&mut random);
    (picture(&scene, side, &mut random), caption)
}

/// A scene as a run would have it: drawn at some shape, compressed, perhaps padded to a square.
fn picture(scene: &Scene, side: u32, random: &mut Random) -> Pixels {
    let ratio = if random.chance(0.3) { 1.0 } else { random.between(1.0, 1.5) };
    let (mut width, mut height) = ((side as f32 * ratio) as u32, side);
    if random.chance(0.5) {
        (width, height) = (height, width);
    }
    let mut rgb = draw(scene, width, height);
    if random.chance(0.6) {
        let mut jpeg = Vec::new();
        let quality = 60 + random.below(36) as u8;
        let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, quality);
        image::ImageEncoder::write_image(encoder, &rgb, width, height, image::ExtendedColorType::Rgb8)
            .expect("a buffer in memory takes everything");
        let format = image::ImageFormat::Jpeg;
        rgb = image::load(Cursor::new(jpeg), format).expect("written above").into_rgb8().into_raw();
    }
    if random.chance(0.75) {
        let square = width.max(height);
        let (left, top) = ((square - width) / 2, (square - height) / 2);
        let mut padded = vec![255; (square * square * 3) as usize];
        for (row, line) in rgb.chunks_exact((width * 3) as usize).enumerate() {
            let at = (((top + row as u32) * square + left) * 3) as usize;
            padded[at..at + line.len()].copy_from_slice(line);
        }
        (rgb, width, height) = (padded, square, square);
    }
    Pixels::new(width, height, rgb).expect("full size")
}

/// Recall among 100, AUC and what the threshold keeps, over `rounds` times 100 scenes of another world.
#[allow(clippy::print_stdout)]
fn measure(clip: &Clip, rounds: usize) -> Anyhow<()> {
    let (mut hits, mut matched, mut mismatched) = (0, Vec::new(), Vec::new());
    for round in 0..rounds as u64 {
        let (pictures, captions): (Vec<_>, Vec<_>) =
            (0..100).map(|i| sample(HELD_OUT_SEED, round * 100 + i, 256)).unzip();
        let images = clip.images(&pictures)?;
        let texts = clip.texts(&captions.iter().map(String::as_str).collect::<Vec<_>>())?;
        for (row, text) in texts.iter().enumerate() {
            let similarity = |image: &Embedding| text.similarity(image);
            let own = similarity(&images[row]);
            hits += usize::from(images.iter().all(|image| similarity(image) <= own));
            matched.push(own);
            mismatched.push(similarity(&images[(row + 1) % 100]));
        }
    }
    let count = matched.len();
    let recall = hits as f64 / count as f64;
    mismatched.sort_by(f64::total_cmp);
    let below: usize = matched.iter().map(|own| mismatched.partition_point(|other| other < own)).sum();
    let auc = below as f64 / (count * count) as f64;
    let kept = |similarities: &[f64]| similarities.iter().filter(|&&s| s >= THRESHOLD).count() as f64 / count as f64;
    let (right, wrong) = (kept(&matched), kept(&mismatched));
    let shapes = shape_accuracy(clip, rounds as u64 * 20)?;
    println!("held-out, {count} scenes: text-to-image recall@1 of 100 {recall:.3}, AUC {auc:.4}");
    println!("at {THRESHOLD}: keeps {:.1} % of matched and {:.1} % of mismatched pairs", right * 100.0, wrong * 100.0);
    println!("among scenes that differ in shape alone, a few words find the right one in {:.1} %", shapes * 100.0);
    if recall < 0.6 || auc < 0.97 || right < 0.9 || wrong > 0.1 {
        return Err("the model is below its bar".into());
    }
    Ok(())
}

/// How often the gist of a scene finds it among nine that differ in the shape of the first group and in nothing else.
fn shape_accuracy(clip: &Clip, families: u64) -> Anyhow<f64> {
    let mut hits = 0;
    for family in 0..families {
        let base = Scene::new(HELD_OUT_SEED, family);
        let scenes = Shape::ALL.map(|shape| Scene { first: Group { shape, ..base.first }, ..base.clone() });
        let pictures = scenes.each_ref().map(|scene| picture(scene, 256, &mut Random::of(HELD_OUT_SEED, family)));
        let (gists, images) = (scenes.each_ref().map(Scene::gist), clip.images(&pictures)?);
        for (text, own) in clip.texts(&gists.each_ref().map(String::as_str))?.iter().zip(&images) {
            hits += u64::from(images.iter().all(|other| text.similarity(other) <= text.similarity(own)));
        }
    }
    Ok(hits as f64 / (families * Shape::ALL.len() as u64) as f64)
}

/// A byte-level BPE built as CLIP's own is, over captions of the training world.
fn train_tokenizer() -> Anyhow<tokenizers::Tokenizer> {
    let captions = (0..4000).map(sample_caption).chain(DRAWING.iter().chain(&OTHER).map(|&t| t.to_owned()));
    let words = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
    let split = Split::new(SplitPattern::Regex(words.into()), SplitDelimiterBehavior::Removed, true)?;
    let normalizer = Normalizers::new(vec![
        NFC.into(),
        Replace::new(tokenizers::normalizers::replace::ReplacePattern::Regex(r"\s+".into()), " ")?.into(),
        Lowercase.into(),
    ]);
    let mut tokenizer: TokenizerImpl<BPE, Normalizers, PreTokenizers, RobertaProcessing, ByteLevel> =
        TokenizerBuilder::new()
            .with_model(BPE::builder().end_of_word_suffix("</w>".into()).unk_token("<|endoftext|>".into()).build()?)
            .with_normalizer(Some(normalizer))
            .with_pre_tokenizer(Some(PreTokenizers::new(vec![split.into(), ByteLevel::new(false, true, false).into()])))
            .with_post_processor(None)
            .with_decoder(Some(ByteLevel::default()))
            .build()?;
    let special = ["<|startoftext|>", "<|endoftext|>"].map(|token| AddedToken::from(token, true));
    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(1200)
        .min_frequency(2)
        .end_of_word_suffix("</w>".into())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(special.to_vec())
        .build();
    tokenizer.train(&mut trainer, captions)?;
    let id = |token: &str| tokenizer.token_to_id(token).ok_or("no such token");
    let (start, end) = (id("<|startoftext|>")?, id("<|endoftext|>")?);
    let ends = RobertaProcessing::new(("<|endoftext|>".into(), end), ("<|startoftext|>".into(), start))
        .trim_offsets(false)
        .add_prefix_space(false);
    tokenizer.with_post_processor(Some(ends));
    Ok(tokenizers::Tokenizer::from(tokenizer))
}

fn sample_caption(index: u64) -> String {
    Scene::new(TRAINING_SEED, index).caption(&mut Random::of(TRAINING_SEED ^ 0xCAFE, index))
}
