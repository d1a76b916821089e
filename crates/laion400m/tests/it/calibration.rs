//! `stats` on embeddings: made up so that every cosine is known.

use std::path::Path;

use dataset::npy::MatrixWriter;
use dataset::picture::encode_jpeg;
use dataset::schema::{CuratedRow, EmbeddingRow};
use dataset::table::write_table;
use dataset::webdataset::TarWriter;
use dataset::{Embedding, EmbeddingFiles, Pixels, ShardId};
use fs_err as fs;
use serde_json::{Value, json};

use crate::support::{Said, call};

const DIMENSIONS: usize = 8;
/// Of each picture with its own text, and with that of the row two further on. All are float16.
const COSINES: [(f32, f32); 4] = [(0.5, -0.125), (0.3125, 0.3125), (0.25, 0.125), (0.3125, 0.0)];

/// Picture i is axis i; its text has what is wanted along that axis and along that of the picture two rows away.
fn vectors(row: usize) -> [Embedding; 2] {
    let (mut image, mut text) = ([0.0; DIMENSIONS], [0.0; DIMENSIONS]);
    let other = (row + 2) % 4;
    image[row] = 1.0;
    text[row] = COSINES[row].0;
    text[other] = COSINES[other].1;
    text[7] = (1.0 - text.iter().map(|value| value * value).sum::<f32>()).sqrt();
    [image, text].map(|values| Embedding::normalized(values.to_vec()).expect("a direction"))
}

fn write(folder: &Path, shard: u32, captions: [&str; 4]) -> EmbeddingFiles {
    let files = EmbeddingFiles::of(folder, ShardId(shard));
    for (kind, path) in [&files.image, &files.text].into_iter().enumerate() {
        let mut matrix = MatrixWriter::create(path, 4, DIMENSIONS).expect("room");
        (0..4).for_each(|row| matrix.push(&vectors(row)[kind]).expect("room"));
        matrix.publish().expect("room");
    }
    let rows = captions.into_iter().enumerate().map(|(row, caption)| EmbeddingRow {
        image_path: format!("{shard:05}{row:04}"),
        caption: caption.into(),
        ..EmbeddingRow::default()
    });
    write_table(&files.metadata, rows).expect("room");
    files
}

fn name(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn stats(folder: &Path, more: &[&str]) -> Said {
    call(&[&["stats", name(folder)], more].concat())
}

/// The bins that hold something, from their least values on.
fn filled(similarity: &Value) -> Vec<(f64, u64)> {
    let bins = similarity["histogram"].as_array().expect("bins").iter();
    let bins = bins.map(|bin| (bin["from"].as_f64().expect("a value"), bin["count"].as_u64().expect("a count")));
    bins.filter(|&(_, count)| count > 0).collect()
}

#[test]
fn matched_pairs_are_compared_with_mismatched_ones() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(folder.path(), 0, ["a cat", "a dog", "a red car", "a house"]);
    write(folder.path(), 3, ["a cat", "a dog", "a red car", "a house"]);
    let said = stats(folder.path(), &["--json"]);
    assert_eq!((said.status, said.stderr.as_str()), (Some(0), ""));
    let said = said.json();
    assert_eq!((&said["rows"], &said["shards"]), (&8.into(), &2.into()));
    assert_eq!(filled(&said["matched"]), [(0.24, 2), (0.3, 4), (0.5, 2)]);
    assert_eq!(filled(&said["mismatched"]), [(-0.14, 2), (0.0, 2), (0.12, 2), (0.3, 2)]);
    assert_eq!((&said["matched"]["least"], &said["mismatched"]["most"]), (&0.25.into(), &0.3125.into()));
    let chosen =
        json!({"similarity_min": 0.3, "matched": 6, "matched_share": 0.75, "mismatched": 2, "mismatched_share": 0.25});
    assert_eq!(said["chosen"], chosen);
    assert!(said["thresholds"].as_array().expect("thresholds").contains(&chosen), "{said}");
    let other = stats(folder.path(), &["--json", "--similarity-min", "0.3125"]).json();
    assert_eq!((&other["chosen"]["matched"], &other["chosen"]["mismatched"]), (&6.into(), &2.into()), "not less alike");
    let other = stats(folder.path(), &["--json", "--similarity-min", "0.3126"]).json();
    assert_eq!((&other["chosen"]["matched"], &other["chosen"]["mismatched"]), (&2.into(), &0.into()));
    let text = stats(folder.path(), &[]).stdout;
    for line in [
        "8 rows in 2 shards",
        "  matched     0.250 to 0.500, mean 0.344",
        "  from  0.30         4 ████████████████████          2 ██████████",
        ">       0.30               75.0 %                       25.0 %",
    ] {
        assert!(text.lines().any(|there| there == line), "{line}\n{text}");
    }
    assert!(text.contains("LAION's authors chose 0.3 for CLIP ViT-B/32 by eye"), "{text}");
    stats(folder.path(), &["--similarity-min", "2"]).could_not_run(&["similarity_min is 2"]);
    let said = stats(folder.path(), &["--show-nsfw"]);
    assert!(said.status == Some(2) && said.stderr.contains("--html"), "{said:?}");
}

#[test]
fn a_caption_that_is_the_same_is_no_mismatch() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // The first and the third would have been paired: each takes the next one instead.
    write(folder.path(), 0, ["a cat", "a dog", "A  Cat", "a house"]);
    let said = stats(folder.path(), &["--json"]).json();
    assert_eq!(filled(&said["mismatched"]), [(0.0, 3), (0.3, 1)]);
    assert_eq!(said["mismatched"]["unknown"], 0);
    write(folder.path(), 0, ["a cat"; 4]);
    let said = stats(folder.path(), &["--json"]).json();
    assert_eq!((&said["matched"]["unknown"], &said["mismatched"]["unknown"]), (&0.into(), &4.into()));
    assert!(stats(folder.path(), &[]).stdout.contains("mismatched  none; 4 find no other caption"));
}

#[test]
fn rows_without_embeddings_are_counted_and_damaged_files_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let files = write(folder.path(), 0, ["a cat", "a dog", "a red car", "a house"]);
    let whole = fs::read(&files.image).expect("written");
    let start = whole.len() - 4 * DIMENSIONS * 2;
    let mut empty = whole.clone();
    empty[start..start + DIMENSIONS * 2].fill(0);
    fs::write(&files.image, &empty).expect("room");
    let said = stats(folder.path(), &["--json"]).json();
    assert_eq!((&said["rows"], &said["matched"]["unknown"]), (&4.into(), &1.into()));
    assert_eq!(filled(&said["matched"]), [(0.24, 1), (0.3, 2)]);

    let mut long = whole.clone();
    long[start + 1] = 0x7b; // the first value becomes 57,344
    fs::write(&files.image, &long).expect("room");
    stats(folder.path(), &[]).could_not_run(&["img_emb_0.npy", "row 0", "57344"]);
    fs::write(&files.image, &whole[..whole.len() - 1]).expect("room");
    stats(folder.path(), &[]).could_not_run(&["img_emb_0.npy", "do not fill"]);
    fs::write(&files.image, &whole).expect("room");
    fs::remove_file(&files.text).expect("written");
    stats(folder.path(), &[]).could_not_run(&["text_emb_0.npy"]);
    fs::remove_dir(folder.path().join("text_emb")).expect("empty");
    stats(folder.path(), &[]).could_not_run(&["text_emb", "there are none of texts"]);
    fs::remove_dir_all(folder.path().join("metadata")).expect("written");
    stats(folder.path(), &[]).could_not_run(&["neither a finished run", "nor embeddings"]);
}

/// A JPEG that says where it was taken.
fn jpeg(seed: u8) -> Vec<u8> {
    let rgb = (0..200 * 100 * 3).map(|at| (at / 600) as u8 ^ seed).collect();
    let plain = encode_jpeg(&Pixels::new(200, 100, rgb).expect("full size"), 90).expect("encodable");
    let exif = b"\xff\xe1\x00\x14Exif\0\0MM\0\x2aPLACE!!!";
    [&plain[..2], exif, &plain[2..]].concat()
}

#[test]
fn pairs_around_the_threshold_are_on_the_page() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    let hostile = "<script>alert(1)</script>\u{202e}\u{7}\" onload='x' & ";
    let long = format!("{}Ω", "word ".repeat(100));
    write(&path("embeddings"), 0, [hostile, "a dog <b>", "a red car", &long]);
    fs::create_dir(path("images")).expect("room");
    for (row, caption) in [hostile, "a dog <b>", "another car", &long].into_iter().enumerate() {
        fs::write(path(&format!("images/00000000{row}.jpg")), jpeg(row as u8)).expect("room");
        fs::write(path(&format!("images/00000000{row}.txt")), caption).expect("room");
    }
    let (html, images) = (path("page.html"), path("images"));
    let page = |more: &[&str]| {
        let said = stats(&path("embeddings"), &[&["--html", name(&html), "--json"], more].concat());
        assert_eq!(said.status, Some(0), "{said:?}");
        assert!(said.stderr.contains(name(&html)), "{said:?}");
        fs::read_to_string(&html).expect("written")
    };
    // 0.25 and 0.3125, the latter twice; 0.5 is too far away.
    let with = page(&["--images", name(&images)]);
    for part in [
        "<title>0.30 to 0.32: 2 matched</title>",
        "<title>0.30 to 0.32: 1 mismatched</title>",
        "threshold 0.30",
        "<th scope=\"row\">0.30</th><td>75.0 %</td>",
        "0.24 to 0.26 <span>dropped; 1 of 1",
        "0.30 to 0.32 <span>kept; 2 of 2",
        "<bdi>a dog &lt;b&gt;</bdi>",
        "<p class=\"quiet\">0.312</p>",
        "Nobody has tagged them",
        "img-src data:;",
    ] {
        assert!(with.contains(part), "{part:?} is missing in {with}");
    }
    assert!(!with.contains('Ω'), "a caption is cut off before it fills the page");
    // The car's picture has another caption, so it is not the pair's.
    assert_eq!((with.matches("<img ").count(), with.matches("no picture").count()), (2, 1));
    assert_eq!(with.matches("width=\"128\" height=\"64\" src=\"data:image/jpeg;base64,/9j/4AAQ").count(), 2, "no EXIF");
    assert_eq!(page(&["--images", name(&images)]), with, "the same page each time");

    let without = page(&["--similarity-min", "0.5"]);
    for part in [
        "0.50 to 0.52 <span>kept; 1 of 1; their pictures are not at hand",
        "&lt;script&gt;alert(1)&lt;/script&gt;��&quot; onload=&#39;x&#39; &amp; ",
    ] {
        assert!(without.contains(part), "{part:?} is missing in {without}");
    }
    for page in [with, without] {
        for part in ["<script", "\u{202e}", "\u{7}", "onload='", "href=", "url(", "http:"] {
            assert!(!page.contains(part), "{part:?} is there");
        }
    }
    stats(&path("embeddings"), &["--html", name(&html), "--images", name(&path("none"))]).could_not_run(&["none"]);
}

/// Which pictures of a run may be shown its tags say.
#[test]
fn what_is_not_tagged_unlikely_is_left_out_unless_it_is_asked_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    let captions = ["a cat", "a dog", "a red car", "a house"];
    write(&path("embeddings"), 0, captions);
    let tags = ["UNLIKELY", "NSFW", "UNSURE", "UNLIKELY"];
    let row = |row: usize| CuratedRow {
        key: format!("00000{row:04}"),
        uid: String::new(),
        similarity: f64::from(COSINES[row].0),
        nsfw: tags[row].into(),
        nsfw_meant: tags[row].into(),
        nsfw_2021: tags[row].into(),
        verdict: "dropped".into(),
        reason: None,
        embedding_row: row as i64,
        caption: captions[row].into(),
        url: String::new(),
        page_url: String::new(),
        license: None,
        language: None,
        width: 0,
        height: 0,
        original_width: 0,
        original_height: 0,
    };
    write_table(&path("curated/00000.parquet"), (0..4).map(row)).expect("room");
    let mut tar = TarWriter::create(&path("images/00000.tar")).expect("a new file");
    for (row, caption) in captions.into_iter().enumerate() {
        tar.push(&format!("00000{row:04}.jpg"), &jpeg(row as u8)).expect("room");
        tar.push(&format!("00000{row:04}.txt"), caption.as_bytes()).expect("room");
    }
    tar.publish().expect("room");
    fs::write(path("report.json"), r#"{"stages": []}"#).expect("room");
    fs::write(path("recipe.toml"), "archives = []\n[filter]\nsimilarity_min = 0.29\n").expect("room");
    let html = path("page.html");
    let page = |more: &[&str]| {
        let said = stats(folder.path(), &[&["--html", name(&html), "--json"], more].concat());
        assert_eq!(said.json()["calibration"]["chosen"]["similarity_min"], 0.29, "the run's own");
        fs::read_to_string(&html).expect("written")
    };
    // 0.25 is UNSURE; of those at 0.3125 one is NSFW.
    let (safe, all) = (page(&[]), page(&["--show-nsfw"]));
    let pictures = |page: &str| page.matches("<img ").count();
    assert_eq!((pictures(&safe), pictures(&all)), (1, 3));
    assert!(safe.contains("a house") && !safe.contains("a dog") && !safe.contains("a red car"), "{safe}");
    assert!(safe.contains("kept; 1 of 2, 1 left out") && safe.contains("UNSURE or NSFW are left out"), "{safe}");
    assert!(all.contains("0.312 · NSFW") && all.contains("0.250 · UNSURE") && all.contains("are among them"), "{all}");

    fs::remove_file(path("images/00000.tar")).expect("written");
    assert!(
        page(&["--show-nsfw"]).contains("their pictures are not at hand"),
        "a run keeps them only if it is told to"
    );
    write_table(&path("curated/00000.parquet"), (1..4).map(row)).expect("room");
    stats(folder.path(), &[]).could_not_run(&["00000.parquet", "3 rows, but", "metadata_0.parquet has 4"]);
    write_table(&path("curated/00000.parquet"), [1, 0, 2, 3].map(row)).expect("room");
    stats(folder.path(), &[]).could_not_run(&["00000.parquet", "row 0 is not of 000000000"]);
    fs::remove_dir_all(path("embeddings")).expect("written");
    assert_eq!(stats(folder.path(), &["--json"]).json(), json!({"stages": []}), "the funnel needs no embeddings");
    stats(folder.path(), &["--html", name(&html)]).could_not_run(&["no embeddings"]);
}
