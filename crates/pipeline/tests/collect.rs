//! `collect` on real pages, on damaged archives, and on many archives at once.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use dataset::schema::Pair;
use dataset::table::read_table;
use dataset::{Progress, Silent, Stage, Summary, Task, list_shards};
use flate2::Compression;
use flate2::write::GzEncoder;
use fs_err as fs;
use pipeline::collect::{Config, Rules, run};

/// Remembers what a person would have read.
#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Progress for Warnings {
    fn begin(&self, _: Stage, _: Option<u64>) -> Box<dyn Task + '_> {
        Box::new(Silent)
    }
    fn warn(&self, line: &str) {
        self.0.lock().expect("no panic").push(line.into());
    }
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn pairs(folder: &Path) -> Vec<Pair> {
    let shards = list_shards(folder, "parquet").expect("collected");
    shards.iter().flat_map(|id| read_table::<Pair>(&folder.join(format!("{id}.parquet"))).expect("sound")).collect()
}

fn everything() -> Config {
    Config { languages: Vec::new(), ..Config::laion400m() }
}

/// One WAT record about one page with these images.
fn record(page: &str, images: &[(&str, &str)]) -> Vec<u8> {
    let links: Vec<_> =
        images.iter().map(|(url, alt)| serde_json::json!({"path": "IMG@/src", "url": url, "alt": alt})).collect();
    let json = serde_json::json!({"Container": {}, "Envelope": {
        "WARC-Header-Metadata": {"WARC-Target-URI": page},
        "Payload-Metadata": {"HTTP-Response-Metadata": {"HTML-Metadata": {"Links": links}}}
    }});
    member(&json.to_string())
}

fn member(body: &str) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    let length = body.len();
    write!(gzip, "WARC/1.0\r\nWARC-Type: metadata\r\nContent-Length: {length}\r\n\r\n{body}\r\n\r\n").expect("memory");
    gzip.finish().expect("memory")
}

#[test]
fn real_pages_give_the_pairs_of_cc2dataset() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = Config { rules: Rules::Cc2dataset, ..Config::laion400m() };
    let summary = run(&config, &[data("real-pages.warc.wat.gz")], folder.path(), &Silent).expect("collected");
    let mut uids: Vec<_> = pairs(folder.path()).into_iter().map(|pair| pair.uid).collect();
    uids.sort();
    let expected = fs::read_to_string(data("real-pages.cc2dataset.txt")).expect("golden");
    assert_eq!(uids, expected.lines().collect::<Vec<_>>());
    assert_eq!((summary.counts.kept, summary.counts.dropped["duplicate"]), (861, 139));
    summary.counts.check().expect("every link has an end");
}

#[test]
fn real_pages_give_clean_english_pairs_by_the_recipe() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let summary =
        run(&Config::laion400m(), &[data("real-pages.warc.wat.gz")], folder.path(), &Silent).expect("collected");
    summary.counts.check().expect("every link has an end");
    let pairs = pairs(folder.path());
    assert_eq!(pairs.len() as u64, summary.counts.kept);
    assert!(pairs.len() > 200, "{}", pairs.len());
    for pair in &pairs {
        assert!(pair.url.starts_with("http") && pair.caption.chars().count() >= 5, "{pair:?}");
        assert!(!pair.caption.contains(char::is_control) && pair.caption.trim() == pair.caption, "{pair:?}");
        assert_eq!((pair.language.as_str(), pair.archive.as_str()), ("eng", "real-pages.warc.wat.gz"));
        assert!(pair.license.as_ref().is_none_or(|license| license.starts_with("http")), "{pair:?}");
    }
    assert!(pairs.iter().any(|pair| pair.license.is_some()));
}

#[test]
fn equal_pairs_become_the_one_of_the_first_archive_whatever_the_order() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let archives: Vec<_> = ["b", "a", "c"]
        .iter()
        .map(|name| {
            let path = folder.path().join(format!("{name}.warc.wat.gz"));
            let same = [("http://x.com/1.jpg", "the same text"), ("http://x.com/1.jpg", "the same text")];
            let own = [("http://x.com/1.jpg", *name)];
            let own = own.map(|(url, name)| (url, format!("text of archive {name}")));
            let own: Vec<_> = own.iter().map(|(url, text)| (*url, text.as_str())).collect();
            fs::write(&path, [record("http://p.com/", &same), record("http://p.com/", &own)].concat()).expect("room");
            path
        })
        .collect();
    let out = folder.path().join("pairs");
    let summary = run(&everything(), &archives, &out, &Silent).expect("collected");
    assert_eq!((summary.counts.rows, summary.counts.kept, summary.counts.dropped["duplicate"]), (9, 4, 5));
    let found = pairs(&out);
    assert!(found.is_sorted_by(|a, b| a.uid < b.uid), "in the order of a hash");
    let winner = found.iter().find(|pair| pair.caption == "the same text").expect("kept once");
    assert_eq!(
        (winner.archive.as_str(), winner.record_offset, winner.link_path.as_str()),
        ("a.warc.wat.gz", 0, "0 IMG@/src")
    );
}

#[test]
fn shards_hold_as_many_pairs_as_the_settings_say() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = Config { shard_rows: 100, ..Config { rules: Rules::Cc2dataset, ..Config::laion400m() } };
    run(&config, &[data("real-pages.warc.wat.gz")], folder.path(), &Silent).expect("collected");
    let shards = list_shards(folder.path(), "parquet").expect("collected");
    let rows = |id| read_table::<Pair>(&folder.path().join(format!("{id}.parquet"))).expect("sound").len();
    assert_eq!(shards.iter().map(rows).collect::<Vec<_>>(), [100, 100, 100, 100, 100, 100, 100, 100, 61]);
    let none = Config { shard_rows: 0, ..config };
    assert!(run(&none, &[data("real-pages.warc.wat.gz")], folder.path(), &Silent).is_err());
}

#[test]
fn damage_is_told_with_its_place_and_costs_nothing_else() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let good = |n: &str| record("http://p.com/", &[(&format!("http://x.com/{n}.jpg"), "a caption")]);
    let mut flipped = good("2");
    let middle = flipped.len() / 2;
    flipped[middle..middle + 4].fill(0xFF);
    let whole = [good("1"), flipped.clone(), member("{\"Envelope\":"), member("{}"), good("3"), good("4")].concat();
    let damaged = folder.path().join("damaged.warc.wat.gz");
    fs::write(&damaged, &whole[..whole.len() - 30]).expect("room");
    let missing = folder.path().join("missing.warc.wat.gz");
    let text = folder.path().join("text.warc.wat.gz");
    fs::write(&text, "no archive at all").expect("room");
    let warnings = Warnings::default();
    let out = folder.path().join("pairs");
    let summary = run(&everything(), &[damaged, missing.clone(), text], &out, &warnings).expect("collected");
    assert_eq!(pairs(&out).len(), 2, "pages 1 and 3");
    assert_eq!((summary.counts.failed["broken_record"], summary.counts.failed["unreadable_archive"]), (4, 2));
    summary.counts.check().expect("every record has an end");
    let warnings = warnings.0.into_inner().expect("no panic");
    let offset = good("1").len();
    for expected in [
        &format!("damaged.warc.wat.gz: byte {offset}: "),
        "missing.warc.wat.gz",
        "text.warc.wat.gz: byte 0: not gzip",
        "cut off",
        "no Envelope",
    ] {
        assert!(warnings.iter().any(|line| line.contains(expected)), "{expected}: {warnings:#?}");
    }
    // An archive that has come since is collected by the next call, and one that nothing happened to is not touched.
    fs::write(&missing, good("5")).expect("room");
    let again =
        run(&everything(), &[folder.path().join("damaged.warc.wat.gz"), missing], &out, &Silent).expect("collected");
    assert_eq!((pairs(&out).len(), again.counts.failed.get("unreadable_archive")), (3, None));
}

#[test]
fn nothing_readable_is_an_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let result = run(&everything(), &[folder.path().join("none.wat.gz")], &folder.path().join("pairs"), &Silent);
    assert!(result.expect_err("nothing there").to_string().contains("none of 1 archives"));
    assert!(run(&everything(), &[], folder.path(), &Silent).is_err());
}

#[test]
fn a_second_call_changes_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("pairs");
    let archive = [data("real-pages.warc.wat.gz")];
    let first: Summary = run(&Config::laion400m(), &archive, &out, &Silent).expect("collected");
    let written = || fs::metadata(out.join("00000.parquet")).and_then(|meta| meta.modified()).expect("there");
    let before = written();
    assert_eq!(run(&Config::laion400m(), &archive, &out, &Silent).expect("collected"), first);
    assert_eq!(written(), before);
    assert!(run(&everything(), &archive, &out, &Silent).is_err(), "other settings");
}
