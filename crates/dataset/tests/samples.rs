//! Pictures with captions in the layouts of img2dataset, of LAION and of people.

use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, Int64Array, LargeStringArray, RecordBatch, StringArray};
use dataset::carried::{self, Object};
use dataset::samples::{Found, Further, SampleShard};
use dataset::schema::{EmbeddingRow, ImageRow, Pair, uid};
use dataset::shard::{Layout, ShardWriter};
use dataset::webdataset::TarWriter;
use dataset::{Failure, Reason, Result, SampleKey, ShardId, Status};
use fs_err as fs;
use parquet::arrow::ArrowWriter;

#[derive(Debug, Default)]
struct Read {
    samples: Vec<(EmbeddingRow, Vec<u8>)>,
    /// Of each sample, in order.
    further: Vec<Object>,
    lost: Vec<(&'static str, u64)>,
    absent: u64,
}

fn read(shard: &SampleShard) -> Result<Read> {
    let (mut read, mut numbers) = (Read::default(), Vec::new());
    let further: Further = shard.read(|found| {
        match found {
            Found::Sample(sample) => {
                numbers.push(sample.number);
                read.samples.push((sample.row, sample.picture));
            }
            Found::Lost(status, rows) => read.lost.push((status.name(), rows)),
            Found::Absent(rows) => read.absent += rows,
        }
        Ok(())
    })?;
    read.further = carried::objects(&further.of(&numbers).expect("columns")).expect("rows");
    Ok(read)
}

/// The one shard of a folder or file.
fn only(path: &Path) -> SampleShard {
    let shards = SampleShard::list(path).expect("shards");
    let [shard] = &shards[..] else { panic!("{shards:?}") };
    shard.clone()
}

fn tar(path: &Path, members: &[(&str, &[u8])]) {
    let mut tar = TarWriter::create(path).expect("a new file");
    for (name, content) in members {
        tar.push(name, content).expect("room");
    }
    tar.publish().expect("room");
}

fn table(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter(columns).expect("of one length");
    let file = fs::File::create(path).expect("room");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("room");
    writer.write(&batch).expect("room");
    writer.close().expect("room");
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

#[test]
fn every_layout_gives_the_same_rows() {
    for layout in [Layout::Webdataset, Layout::Files, Layout::Parquet, Layout::Tfrecord] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let row = |number: u32, caption: &str, status| {
            let url = format!("http://a.com/{number}");
            let pair = Pair { uid: "u".into(), url, caption: caption.into(), ..Pair::default() };
            let mut row = ImageRow::new(&pair, SampleKey { shard: ShardId(3), row: number });
            row.set_status(status, false);
            (row.width, row.height, row.original_width) = (Some(5), Some(4), Some(50));
            row
        };
        let objects: Vec<Object> =
            serde_json::from_str(r#"[{"id":7,"box":[0.5]},{"id":8,"box":[]},{"id":null,"box":null}]"#)
                .expect("objects");
        let fields = carried::fields(&["id".into(), "box".into()], &objects, false).expect("kinds");
        let further = carried::columns(&fields, &objects).expect("columns");
        let mut writer = ShardWriter::create(folder.path(), ShardId(3), layout, "png", further).expect("a new shard");
        writer.push(row(0, "a \u{e9}", Status::Kept), Some(b"first".to_vec())).expect("room");
        writer.push(row(1, "gone", Status::Failed(Failure::Timeout)), None).expect("room");
        writer.push(row(2, "", Status::Kept), Some(b"second".to_vec())).expect("room");
        writer.publish().expect("room");

        let shard = only(folder.path());
        assert_eq!((shard.id, shard.row_count().expect("a table")), (ShardId(3), Some(3)), "{layout:?}");
        let read = read(&shard).expect("sound");
        assert_eq!((read.absent, &read.lost[..]), (1, &[][..]), "{layout:?}");
        let found: Vec<_> = read
            .samples
            .iter()
            .map(|(row, picture)| (row.key.as_str(), row.caption.as_str(), row.url.as_str(), row.width, &picture[..]))
            .collect();
        let expected: [(&str, &str, &str, i32, &[u8]); 2] = [
            ("000030000", "a \u{e9}", "http://a.com/0", 5, b"first"),
            ("000030002", "", "http://a.com/2", 5, b"second"),
        ];
        assert_eq!(found, expected, "{layout:?}");
        let path = if layout == Layout::Files { "00003/000030000.png" } else { "000030000" };
        let first = &read.samples[0].0;
        assert_eq!(
            (first.image_path.as_str(), first.uid.as_str(), first.original_width),
            (path, "u", 50),
            "{layout:?}"
        );
        let further = &read.further;
        assert_eq!((&further[0]["id"], &further[0]["box"]), (&7.into(), &vec![0.5].into()), "{layout:?}");
        assert!(further[1]["id"].is_null() && further[1]["status"] == "success", "{layout:?}");
        assert!(!further[0].contains_key("caption") && !further[0].contains_key("png"), "{layout:?}");
    }
}

#[test]
fn a_table_of_others_needs_no_column_of_ours() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    // Keys as numbers, names in capitals, and a key of another width in the tar.
    let captions: ArrayRef = Arc::new(LargeStringArray::from(vec!["a cat", "a dog", "a cow"]));
    table(
        &path("part_b.parquet"),
        vec![
            ("SAMPLE_ID", Arc::new(Int64Array::from(vec![11, 12, 13]))),
            ("TEXT", captions),
            ("URL", texts(&[Some("http://a/1"), Some("http://a/2"), None])),
            ("LICENSE", texts(&[Some("?"), Some("CC-BY"), None])),
            ("WIDTH", Arc::new(Int64Array::from(vec![640, 641, 642]))),
            ("HEIGHT", Arc::new(Int64Array::from(vec![480, 481, 482]))),
            ("key", Arc::new(Int64Array::from(vec![7, 8, 9]))),
        ],
    );
    tar(&path("part_b.tar"), &[("x/0008.jpg", b"dog"), ("x/0007.jpeg", b"cat"), ("x/0007.txt", b"my cat")]);
    tar(&path("part_a.tar"), &[]);
    let shards = SampleShard::list(folder.path()).expect("shards");
    assert_eq!(shards.iter().map(|shard| shard.id.0).collect::<Vec<_>>(), [0, 1], "in the order of their names");
    let read = read(&shards[1]).expect("sound");
    let [(dog, dog_bytes), (cat, cat_bytes)] = &read.samples[..] else { panic!("{:?}", read.samples) };
    assert_eq!((&dog_bytes[..], &cat_bytes[..]), (&b"dog"[..], &b"cat"[..]));
    assert_eq!((dog.key.as_str(), dog.image_path.as_str(), dog.caption.as_str()), ("8", "x/0008", "a dog"));
    assert_eq!((cat.caption.as_str(), cat.url.as_str()), ("my cat", "http://a/1"), "the text beside it comes first");
    assert_eq!((dog.license.as_deref(), cat.license.as_deref()), (Some("CC-BY"), None));
    assert_eq!((dog.original_width, dog.original_height, dog.width), (641, 481, 0));
    assert_eq!(dog.uid, uid("a dog", "http://a/2"));
    assert_eq!(read.further[0]["SAMPLE_ID"], 12);
    assert_eq!(read.lost, [("no_image", 1)], "without a status nobody knows whether there was one");
}

#[test]
fn a_tar_alone_tells_by_its_texts_and_json() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("00012.tar");
    let json =
        br#"{"caption":"by json","url":"http://a/1","key":"000120000","width":5,"height":4,"exif":{"Make":"X"}}"#;
    tar(
        &path,
        &[
            ("000120000.jpg", b"one"),
            ("000120000.json", json),
            ("000120000.txt", b"by text"),
            ("000120001.JSON", br#"{"caption":"by json","n":3}"#),
            ("000120001.webp", b"two"),
            ("000120002.txt", b"no picture"),
            ("000120003.png", b"bare"),
            ("000120004.png", b"bad json"),
            ("000120004.json", b"{\"caption\":"),
            ("000120004.txt", b"caf\xE9"),
        ],
    );
    for input in [folder.path(), &path] {
        let shard = only(input);
        assert_eq!((shard.id, shard.row_count().expect("no table")), (ShardId(12), None));
        let read = read(&shard).expect("sound");
        let captions: Vec<_> = read.samples.iter().map(|(row, _)| row.caption.as_str()).collect();
        assert_eq!(captions, ["by text", "by json", "", "caf\u{fffd}"]);
        let first = &read.samples[0].0;
        assert_eq!((first.url.as_str(), first.width, first.key.as_str()), ("http://a/1", 5, "000120000"));
        assert_eq!((&read.further[0]["exif.Make"], &read.further[1]["n"]), (&"X".into(), &3.into()));
        assert_eq!(read.lost, [("no_image", 1)]);
    }
}

#[test]
fn every_row_and_every_picture_has_an_end() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    let keys = texts(&["a", "b", "b", "c", "d", "e"].map(Some));
    let status = texts(&["success", "success", "success", "success", "failed_to_download", "success"].map(Some));
    table(&path("00000.parquet"), vec![("key", keys.clone()), ("status", status)]);
    let members: [(&str, &[u8]); 7] = [
        ("a.jpg", b"1"),
        ("b.jpg", b"2"),
        ("c.txt", b"no picture"),
        ("d.jpg", b"not downloaded, says the table"),
        ("e.jpg", b"3"),
        ("f.jpg", b"nobody's"),
        ("notes.md", b"no sample"),
    ];
    tar(&path("00000.tar"), &members);
    let found = read(&only(folder.path())).expect("sound");
    assert_eq!((found.samples.len(), found.absent), (2, 1));
    assert_eq!(found.lost, [("duplicate_key", 2), ("no_image", 1), ("no_row", 1), ("no_row", 1)]);

    tar(&path("00000.tar"), &members[..4]);
    let error = read(&only(folder.path())).expect_err("a picture is missing").to_string();
    for part in ["00000.tar", "1 images of 00000.parquet are missing", "e"] {
        assert!(error.contains(part), "{error}");
    }
    table(&path("00000.parquet"), vec![("key", keys)]);
    let found = read(&only(folder.path())).expect("sound");
    assert_eq!(found.lost.last(), Some(&(Status::Dropped(Reason::NoImage).name(), 1)), "{:?}", found.lost);

    table(&path("00000.parquet"), vec![("url", texts(&[Some("http://a/1")]))]);
    let error = read(&only(folder.path())).expect_err("no keys").to_string();
    assert!(error.contains("00000.parquet") && error.contains("key"), "{error}");
}

#[test]
fn pictures_of_a_column_need_not_have_keys() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pictures = BinaryArray::from(vec![Some(&b"one"[..]), None, Some(b"three")]);
    let captions = texts(&[Some("a"), Some("b"), Some("c")]);
    table(&folder.path().join("00002.parquet"), vec![("caption", captions), ("webp", Arc::new(pictures))]);
    let read = read(&only(folder.path())).expect("sound");
    let found: Vec<_> = read.samples.iter().map(|(row, picture)| (row.key.as_str(), &picture[..])).collect();
    assert_eq!(found, [("000020000", &b"one"[..]), ("000020002", b"three")]);
    assert_eq!(read.lost, [("no_image", 1)]);
}

#[test]
fn a_folder_of_pictures_is_read_at_any_depth() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("room");
        fs::write(path, content).expect("room");
    };
    for name in ["b/deep/er/cat.JPG", "a.b.webp", "a.png", "b/dog.jpeg", ".hidden.jpg", "b/._dog.jpeg"] {
        write(name, name);
    }
    write("a.txt", "a caption");
    write("a.b.json", r#"{"caption":"of json","more":1}"#);
    write("b/readme.txt", "no picture");
    let shard = only(folder.path());
    assert_eq!(shard.row_count().expect("names"), Some(4));
    let found = read(&shard).expect("sound");
    let rows: Vec<_> = found
        .samples
        .iter()
        .map(|(row, picture)| {
            assert_eq!(row.image_path.as_bytes(), picture);
            (row.image_path.as_str(), row.key.as_str(), row.caption.as_str())
        })
        .collect();
    let expected = [
        ("a.png", "a", "a caption"),
        ("a.b.webp", "a.b", "of json"),
        ("b/deep/er/cat.JPG", "b/deep/er/cat", ""),
        ("b/dog.jpeg", "b/dog", ""),
    ];
    assert_eq!(rows, expected);
    let before = shard.inputs().expect("readable");
    write("a.txt", "another caption");
    assert_ne!(only(folder.path()).inputs().expect("readable"), before);

    let many = tempfile::tempdir().expect("a temporary folder");
    for number in 0..10_001 {
        fs::File::create(many.path().join(format!("{number:05}.png"))).expect("room");
    }
    let shards = SampleShard::list(many.path()).expect("pictures");
    let rows: Vec<_> = shards.iter().map(|shard| (shard.id.0, shard.row_count().expect("names"))).collect();
    assert_eq!(rows, [(0, Some(10_000)), (1, Some(1))]);
    let none = tempfile::tempdir().expect("a temporary folder");
    let error = SampleShard::list(none.path()).expect_err("nothing there").to_string();
    assert!(error.contains("nor pictures"), "{error}");
}

#[test]
fn a_shard_that_was_cut_off_is_named_with_the_place() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("00000.tar");
    tar(&path, &[("a.jpg", &[1; 2000]), ("b.jpg", &[2; 2000])]);
    let whole = fs::read(&path).expect("written");
    fs::write(&path, &whole[..4000]).expect("room");
    let mut before = 0;
    let ended = only(folder.path()).read(|_| {
        before += 1;
        Ok(())
    });
    let error = ended.expect_err("cut off").to_string();
    assert!(error.contains("00000.tar") && error.contains("byte"), "{error}");
    fs::remove_file(&path).expect("written");
    table(&folder.path().join("00000.parquet"), vec![("key", texts(&[Some("a")]))]);
    let error = read(&only(folder.path())).expect_err("no pictures").to_string();
    assert!(error.contains("00000.tar"), "{error}");
}
