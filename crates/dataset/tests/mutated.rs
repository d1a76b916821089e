//! Packages that somebody has damaged, on purpose or not: a clear error or a counted loss, and nothing that looks sound.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use dataset::Result;
use dataset::load::{BatchOptions, Dataset, Images, OnDamage, ReadOptions, Share};
use dataset::tfds::Example;
use fs_err as fs;
use proptest::prelude::*;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tfds").join(name)
}

/// Golden packages, and whether what is in their files has checksums.
const PACKAGES: [(&str, bool); 6] = [
    ("images-100", true),
    ("images-100-array_record", true),
    ("images-100-parquet", false),
    ("embeddings-100", true),
    ("inputs/images-100", false),
    ("inputs/embeddings-100", false),
];

#[derive(Clone, Debug)]
enum Damage {
    Cut(f64),
    Flip(f64, u8),
    /// Eight bytes, as a huge length has them.
    Huge(f64),
    Swap(usize),
    Empty,
    Gone,
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (0.0..1.0f64).prop_map(Damage::Cut),
        (0.0..1.0f64, 0..8u8).prop_map(|(place, bit)| Damage::Flip(place, bit)),
        (0.0..1.0f64).prop_map(Damage::Huge),
        any::<usize>().prop_map(Damage::Swap),
        Just(Damage::Empty),
        Just(Damage::Gone),
    ]
}

/// Copies a package, damages one of its files, and says which.
fn damaged(from: &Path, to: &Path, file: usize, damage: &Damage) -> String {
    let mut names: Vec<_> = fs::read_dir(from).expect("there").map(|entry| entry.expect("there").file_name()).collect();
    names.sort_unstable();
    for name in &names {
        fs::copy(from.join(name), to.join(name)).expect("room");
    }
    let name = &names[file % names.len()];
    let path = to.join(name);
    let mut bytes = fs::read(&path).expect("copied");
    let place = |share: f64| ((bytes.len() - 1) as f64 * share) as usize;
    match damage {
        Damage::Cut(share) => bytes.truncate(place(*share)),
        Damage::Flip(share, bit) => {
            let place = place(*share);
            bytes[place] ^= 1 << bit;
        }
        Damage::Huge(share) => {
            let place = place(*share);
            bytes[place..].iter_mut().take(8).for_each(|byte| *byte = 0xFE);
        }
        Damage::Swap(other) => bytes = fs::read(from.join(&names[other % names.len()])).expect("there"),
        Damage::Empty => bytes.clear(),
        Damage::Gone => {
            fs::remove_file(&path).expect("there");
            return name.to_string_lossy().into_owned();
        }
    }
    fs::write(&path, bytes).expect("room");
    name.to_string_lossy().into_owned()
}

fn by_url(dataset: &Dataset) -> HashMap<String, Example> {
    let records = dataset.read(&ReadOptions::default()).expect("a split");
    records
        .map(|record| {
            let example = record.expect("sound").example().expect("an example").to_example();
            (example.url.clone(), example)
        })
        .collect()
}

/// Every example that can be read, and the first error.
fn read(folder: &Path, on_damage: OnDamage) -> (Vec<Example>, u64, Option<String>) {
    let options = ReadOptions { on_damage, ..ReadOptions::default() };
    let reader = Dataset::open(folder).and_then(|dataset| dataset.read(&options));
    let mut reader = match reader {
        Ok(reader) => reader,
        Err(error) => return (Vec::new(), 0, Some(error.to_string())),
    };
    let (mut examples, mut failed) = (Vec::new(), None);
    for record in reader.by_ref() {
        match record.and_then(|record| record.example().map(|example| example.to_example())) {
            Ok(example) => examples.push(example),
            Err(error) => failed = failed.or(Some(error.to_string())),
        }
    }
    (examples, reader.skipped(), failed)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn damage_is_told_or_counted(package in 0..PACKAGES.len(), file: usize, damage in damage()) {
        let (name, checked) = PACKAGES[package];
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = damaged(&golden(name), folder.path(), file, &damage);
        let whole = by_url(&Dataset::open(&golden(name)).expect("sound"));
        let (found, _, error) = read(folder.path(), OnDamage::Stop);
        if let Some(error) = &error {
            prop_assert!(error.contains(folder.path().to_str().expect("plain")), "{name}/{file}: {error}");
            prop_assert!(!error.contains("panicked"), "{error}");
        }
        let other = matches!(damage, Damage::Swap(_)); // another file of the same kind is a sound one
        if checked && !other && file.contains("train") {
            for example in &found {
                prop_assert_eq!(Some(example), whole.get(&example.url), "{} of {}", file, name);
            }
            prop_assert!(error.is_some() || found.len() == whole.len(), "{name}/{file}: {} examples", found.len());
        }
        let (left, skipped, error) = read(folder.path(), OnDamage::Skip);
        if checked && error.is_none() && !other && file.contains("train") {
            prop_assert_eq!(left.len() as u64 + skipped, whole.len() as u64, "{} of {}", file, name);
        }
        // Pixels, threads and columns on top of it.
        let batches = Dataset::open(folder.path()).and_then(|dataset| {
            let options = ReadOptions { on_damage: OnDamage::Skip, ..ReadOptions::default() };
            let settings = BatchOptions { size: 16, images: Images::Square(16), ..BatchOptions::default() };
            dataset.batches(&dataset.start(&options), Share::default(), &settings)?.collect::<Result<Vec<_>>>()
        });
        if let Err(error) = batches {
            prop_assert!(error.to_string().contains(folder.path().to_str().expect("plain")), "{error}");
        }
    }
}
