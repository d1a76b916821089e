use std::path::Path;

use dataset::npy::MatrixReader;
use dataset::picture::encode_jpeg;
use dataset::schema::EmbeddingRow;
use dataset::table::read_table;
use dataset::webdataset::TarWriter;
use dataset::{Embedding, EmbeddingFiles, Pixels, ShardId};
use fs_err as fs;
use serde_json::json;

use crate::support::{adds_up, call, files};

fn jpeg(width: u32, height: u32, seed: usize) -> Vec<u8> {
    let rgb = (0..(width * height * 3) as usize).map(|at| (at * (seed + 1) / 7) as u8).collect();
    encode_jpeg(&Pixels::new(width, height, rgb).expect("full size"), 90).expect("encodable")
}

fn name(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// Rows of the first shard with their embeddings of pictures and texts.
fn embedded(folder: &Path) -> Vec<(EmbeddingRow, Embedding, Option<Embedding>)> {
    let files = EmbeddingFiles::of(folder, ShardId(0));
    let mut images = MatrixReader::open(&files.image).expect("a matrix");
    let mut texts = files.text.exists().then(|| MatrixReader::open(&files.text).expect("a matrix"));
    let rows = read_table::<EmbeddingRow>(&files.metadata).expect("a table");
    assert_eq!(images.rows(), rows.len());
    let mut next = |matrix: &mut MatrixReader| matrix.next_embedding().expect("sound").expect("a row of unit length");
    rows.into_iter().map(|row| (row, next(&mut images), texts.as_mut().map(&mut next))).collect()
}

#[test]
fn a_folder_of_pictures_is_embedded_whatever_is_in_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pictures = folder.path().join("pictures");
    fs::create_dir_all(pictures.join("deep/er")).expect("room");
    let put = |file: &str, picture: &[u8], caption: Option<&str>| {
        let path = pictures.join(file);
        fs::write(path.with_extension("jpg"), picture).expect("room");
        if let Some(caption) = caption {
            fs::write(path.with_extension("txt"), caption).expect("room");
        }
    };
    let long = "a very long story ".repeat(100_000 / 18);
    let word = "x".repeat(100_000);
    let captions =
        ["a red car", &long, &word, "nul\0nul", "\u{1F697}\u{1F3FD}\u{200D}\u{1F680} car", "\u{202E}\u{FEFF}."];
    for (at, caption) in captions.iter().enumerate() {
        put(&format!("deep/er/{at}"), &jpeg(40 + at as u32, 30, at), Some(caption));
    }
    // More than are embedded at once, so that some are decoded while others are embedded.
    for at in 100..200 {
        put(&format!("{at}"), &jpeg(24, 24, at), Some(&format!("picture {at}")));
    }
    put("line", &jpeg(1, 10_000, 0), Some("a line"));
    put("strip", &jpeg(1, 200, 0), Some("a strip"));
    put("cut", &jpeg(64, 64, 0)[..500], Some("cut off"));
    put("page", b"<html>not found</html>", Some("no picture"));
    put("empty", &jpeg(9, 9, 0), Some(""));
    put("space", &jpeg(9, 9, 0), Some(" \u{3000}\r\n"));
    put("bare", &jpeg(9, 9, 0), None);
    put("endless", &jpeg(9, 9, 0), Some(&"word ".repeat(1 << 18)));

    let output = folder.path().join("embeddings");
    let arguments = ["embed", name(&pictures), "-o", name(&output), "--json"];
    let said = call(&arguments);
    assert_eq!((said.status, said.stderr.as_str()), (Some(1), ""));
    let stage = said.json();
    adds_up(&stage);
    assert_eq!(stage["kept"], captions.len() + 100 + 1);
    assert_eq!(stage["failed"], json!({"image_damaged": 2}));
    assert_eq!(stage["dropped"], json!({"aspect_ratio": 1, "caption_too_long": 1, "no_caption": 3}));
    let before = files(&output);
    assert_eq!(call(&arguments).json(), stage, "a second call does nothing and says the same");
    assert!(files(&output) == before);

    let rows = embedded(&output);
    let keys: Vec<_> = rows.iter().map(|(row, ..)| row.key.clone()).collect();
    assert!(keys.is_sorted(), "{keys:?}");
    for (at, caption) in captions.iter().enumerate() {
        let (row, image, text) = rows.iter().find(|(row, ..)| row.key == format!("deep/er/{at}")).expect("kept");
        assert_eq!((row.caption.as_str(), row.width, row.original_height), (*caption, 40 + at as i32, 30));
        // Alone it is the same as among others.
        let alone = folder.path().join(format!("alone-{at}"));
        fs::create_dir_all(&alone).expect("room");
        for ending in ["jpg", "txt"] {
            let file = format!("{at}.{ending}");
            fs::copy(pictures.join("deep/er").join(&file), alone.join(&file)).expect("room");
        }
        let output = alone.join("embeddings");
        assert_eq!(call(&["embed", name(&alone), "-o", name(&output)]).status, Some(0));
        let (_, image_alone, text_alone) = embedded(&output).remove(0);
        assert!(image.similarity(&image_alone) > 0.9999, "{at}");
        assert!(text.as_ref().expect("a text").similarity(&text_alone.expect("a text")) > 0.9999, "{at}");
    }

    let images = folder.path().join("images-only");
    let said = call(&["embed", name(&pictures), "-o", name(&images), "--images-only", "--json"]);
    assert_eq!(said.json()["dropped"], json!({"aspect_ratio": 1}), "{said:?}");
    assert!(!images.join("text_emb").exists() && embedded(&images).iter().any(|(row, ..)| row.key == "bare"));
    call(&["embed", name(&pictures), "-o", name(&output), "--images-only"]).could_not_run(&["other settings"]);
    fs::remove_dir_all(&images).expect("written");
    fs::create_dir_all(images.join("in")).expect("room");
    fs::write(images.join("in/a.jpg"), jpeg(9, 9, 0)).expect("room");
    let said = call(&["embed", name(&images.join("in")), "-o", name(&images.join("out"))]);
    assert!(said.status == Some(0) && said.stderr.contains("hint: --images-only"), "{said:?}");
    call(&["embed", name(&folder.path().join("none")), "-o", name(&images)]).could_not_run(&["none"]);
}

#[test]
fn a_damaged_shard_costs_only_itself() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    for shard in ["00000", "00001", "00002"] {
        let mut tar = TarWriter::create(&path(&format!("in/{shard}.tar"))).expect("a new file");
        for row in 0..3 {
            tar.push(&format!("{shard}000{row}.jpg"), &jpeg(30, 30, row)).expect("room");
            tar.push(&format!("{shard}000{row}.txt"), b"a caption").expect("room");
        }
        tar.publish().expect("room");
    }
    let whole = fs::read(path("in/00001.tar")).expect("written");
    fs::write(path("in/00001.tar"), &whole[..2000]).expect("room");
    let (input, output) = (path("in"), path("out"));
    let arguments = ["embed", name(&input), "-o", name(&output), "--json"];
    call(&arguments).could_not_run(&["00001.tar", "byte "]);
    let metadata = |shard| output.join(format!("metadata/metadata_{shard}.parquet"));
    assert!(metadata(0).exists() && !metadata(1).exists() && metadata(2).exists());
    fs::write(path("in/00001.tar"), whole).expect("room");
    let said = call(&arguments);
    assert_eq!((said.status, &said.json()["kept"]), (Some(0), &9.into()));
}
