//! `collect` on real pages, on damaged archives, and on many archives at once.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use dataset::schema::{Pair, hex};
use dataset::spill::Parcel;
use dataset::table::read_table;
use dataset::{Progress, ShardId, Silent, Stage, Summary, Task, list_shards};
use flate2::Compression;
use flate2::write::GzEncoder;
use fs_err as fs;
use md5::{Digest, Md5};
use pipeline::collect::apart::{self, Cut, Ends, Ranged};
use pipeline::collect::{Config, Documents, LEDGER, Rules, run};

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

/// Every document type: rows, unique rows, and the MD5 of the sorted uids, as cc2dataset gives them.
#[test]
fn real_pages_give_the_rows_of_cc2dataset() {
    let golden = fs::read_to_string(data("real-pages.cc2dataset.json")).expect("golden");
    let golden: BTreeMap<String, serde_json::Value> = serde_json::from_str(&golden).expect("JSON");
    assert_eq!(golden.len(), 5);
    for (name, expected) in golden {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let documents: Documents = serde_json::from_value(name.clone().into()).expect("a type of ours");
        let config = Config { rules: Rules::Cc2dataset, documents, ..Config::laion400m() };
        let summary = run(&config, &[data("real-pages.warc.wat.gz")], folder.path(), &Silent).expect("collected");
        let uids: Vec<_> = pairs(folder.path()).into_iter().map(|pair| pair.uid).collect();
        assert!(uids.is_sorted());
        let counts = &summary.counts;
        let duplicates = counts.dropped.get("duplicate").copied().unwrap_or_default();
        let found = serde_json::json!({
            "rows": counts.kept + duplicates,
            "unique": counts.kept,
            "md5": hex(&Md5::digest(uids.join("\n")))
        });
        assert_eq!(found, expected, "{name}");
        counts.check().expect("every link has an end");
        let read = ["records", "pages", "links"].map(|name| counts.read[name]);
        assert_eq!(read, [261, 130, 25_617]);
    }
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

/// The HTML itself has every pair that its WAT lists, and more.
#[test]
fn real_html_has_every_pair_of_its_wat_and_more() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let collected = |config: &Config, archive: &str| {
        let out = folder.path().join(format!("{archive}-{:?}", config.rules));
        let summary = run(config, &[data(archive)], &out, &Silent).expect("collected");
        summary.counts.check().expect("every link has an end");
        assert!(summary.counts.failed.is_empty(), "{summary:?}");
        pairs(&out)
    };
    for config in [everything(), Config { rules: Rules::Cc2dataset, ..Config::laion400m() }] {
        let [wat, html] = ["real-pages.warc.wat.gz", "real-pages.warc.gz"].map(|archive| collected(&config, archive));
        let found: std::collections::HashSet<_> = html.iter().map(|pair| &pair.uid).collect();
        let missing: Vec<_> = wat.iter().filter(|pair| !found.contains(&pair.uid)).collect();
        assert!(missing.is_empty(), "{} of {}: {missing:#?}", missing.len(), wat.len());
        let mut sources = BTreeMap::new();
        html.iter().for_each(|pair| *sources.entry(pair.source.as_str()).or_insert(0) += 1);
        match config.rules {
            Rules::Cc2dataset => assert_eq!((wat.len(), html.len()), (861, 861)),
            Rules::Laion400m => {
                assert!(html.len() > wat.len() * 3 / 2, "{} and {}", html.len(), wat.len());
                assert_eq!(sources.keys().copied().collect::<Vec<_>>(), ["alt", "figcaption", "og", "title"]);
            }
        }
    }
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

fn backwards(parcels: &[Parcel<Vec<u8>>]) -> Vec<Parcel<&[u8]>> {
    parcels.iter().rev().map(Parcel::view).collect()
}

/// As engines do it: archives apart, each range of uids apart, each shard apart.
fn run_apart(config: &Config, archives: &[PathBuf], ranges: usize, output: &Path) {
    let mut carried = vec![Vec::new(); ranges];
    let mut carry = |found: Ranged| {
        found.into_iter().for_each(|(range, parcel)| carried[range as usize].push(parcel));
    };
    for tables in apart::earlier_tables(config).expect("listed").chunks(3) {
        carry(apart::earlier(tables, ranges as u32).expect("tables of pairs"));
    }
    let mut read = Vec::new();
    for (number, path) in (0..).zip(archives) {
        let (found, told) = apart::archive(config, path, number, ranges as u32, &Silent).expect("collected");
        carry(found);
        read.push((path.clone(), told, Ends::default()));
    }
    let (mut files, mut parts, mut place) = (BTreeMap::new(), BTreeMap::<_, Vec<Parcel<Vec<u8>>>>::new(), 0);
    for range in &carried {
        let ends = apart::ends(&range.iter().map(|parcel| &*parcel.uids).collect::<Vec<_>>()).expect("sound");
        let unique = apart::deduplicate(&backwards(range)).expect("sound");
        let once = apart::ends(&[&unique.uids]).expect("sound");
        assert!(once.iter().all(|(archive, once)| (once.stayed, once.before) == (ends[archive].stayed, 0)));
        for (shard, cut) in apart::cut(output, &backwards(range), place, config.shard_rows).expect("sound") {
            match cut {
                Cut::Whole(file) => assert!(files.insert(shard, file).is_none(), "{shard} was written twice"),
                Cut::Part(part) => parts.entry(shard).or_default().push(part),
            }
        }
        for (archive, ends) in ends {
            let total = &mut read[archive as usize].2;
            *total = Ends { stayed: total.stayed + ends.stayed, before: total.before + ends.before };
            place += ends.stayed;
        }
    }
    if place == 0 {
        parts.insert(ShardId(0), Vec::new());
    }
    for (id, parts) in parts {
        let file = apart::write_shard(output, id, &backwards(&parts)).expect("room");
        assert!(files.insert(id, file).is_none(), "{id} was written twice");
    }
    apart::finish_stage(config, read, output, files.into_values().collect()).expect("room");
}

#[test]
fn pairs_that_engines_carry_have_the_bytes_of_one_call() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let all = Config { shard_rows: 100, ..Config { rules: Rules::Cc2dataset, ..Config::laion400m() } };
    let earlier = folder.path().join("earlier");
    run(&all, &[data("real-pages.warc.wat.gz")], &earlier, &Silent).expect("collected");
    // In one folder, for their numbers follow the order of their whole paths.
    let archives = ["again", "none", "real"].map(|name| folder.path().join(format!("{name}.warc.wat.gz")));
    // One of them is so large that its pairs come in parts, and the same ones again in each.
    let content = fs::read(data("real-pages.warc.wat.gz")).expect("there");
    for (path, times) in [(&archives[0], 1), (&archives[2], 40)] {
        fs::write(path, content.repeat(times)).expect("room");
    }
    let some = [earlier.join("00001.parquet"), earlier.join("00004.parquet")];
    for (before, against) in [(0, vec![]), (2 * 200, some.into()), (2 * 861, vec![earlier])] {
        let config = Config { against, ..all.clone() };
        let alone = folder.path().join(format!("alone-{before}"));
        let counts = run(&config, &archives, &alone, &Silent).expect("collected").counts;
        assert_eq!(counts.dropped.get("collected_before").copied().unwrap_or_default(), before, "{counts:?}");
        for ranges in [1, 3, 64] {
            let output = folder.path().join(format!("apart-{before}-{ranges}"));
            run_apart(&config, &archives, ranges, &output);
            for entry in fs::read_dir(&alone).expect("collected").map(|entry| entry.expect("listed")) {
                if entry.file_type().expect("known").is_file() {
                    let (name, there) = (entry.file_name(), fs::read(output.join(entry.file_name())));
                    let (here, there) = (fs::read(entry.path()).expect("sound"), there.expect("the same files"));
                    assert!(there == here, "{name:?} in {ranges} ranges, {before} pairs known");
                }
            }
        }
    }
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
        "text.warc.wat.gz: byte 0: neither gzip nor zstd nor WARC",
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
    // As a kill leaves it that comes after the last file.
    fs::create_dir(out.join(".runs")).expect("room");
    assert_eq!(run(&Config::laion400m(), &archive, &out, &Silent).expect("collected"), first);
    assert_eq!(written(), before);
    assert!(!out.join(".runs").exists(), "nothing stays that was only in between");
    assert!(run(&everything(), &archive, &out, &Silent).is_err(), "other settings");
}

#[test]
fn pairs_of_earlier_runs_are_left_out_and_every_archive_has_its_line() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    let page = |images: &[(&str, &str)]| record("http://p.com/", images);
    let (one, two, three) = (
        ("http://x.com/1.jpg", "the first text"),
        ("http://x.com/2.jpg", "the second text"),
        ("http://x.com/3.jpg", "the third text"),
    );
    fs::write(path("old.warc.wat.gz"), page(&[one])).expect("room");
    fs::write(path("a.warc.wat.gz"), page(&[one, two, two])).expect("room");
    fs::write(path("b.warc.wat.gz"), [page(&[one, two]), page(&[three]), b"garbage".to_vec()].concat()).expect("room");
    let old = path("old");
    run(&everything(), &[path("old.warc.wat.gz")], &old, &Silent).expect("collected");
    let config = Config { against: vec![old], ..everything() };
    let out = path("pairs");
    let summary = run(&config, &[path("a.warc.wat.gz"), path("b.warc.wat.gz")], &out, &Silent).expect("collected");
    let captions: Vec<_> = pairs(&out).into_iter().map(|pair| (pair.caption, pair.archive)).collect();
    assert_eq!(captions.len(), 2, "{captions:?}");
    assert!(captions.contains(&("the second text".into(), "a.warc.wat.gz".into())), "{captions:?}");
    let dropped = |name: &str| summary.counts.dropped[name];
    assert_eq!((dropped("duplicate"), dropped("collected_before"), summary.counts.kept), (2, 2, 2));
    let ledger = fs::read_to_string(out.join(LEDGER)).expect("written");
    let lines: Vec<serde_json::Value> = ledger.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let offset = page(&[one, two]).len() + page(&[three]).len();
    let expected = serde_json::json!([
        {"archive": "a.warc.wat.gz", "rows": 3, "kept": 1, "dropped": {"duplicate": 1, "collected_before": 1},
         "failed": {}, "read": {"records": 1, "pages": 1, "links": 3}},
        {"archive": "b.warc.wat.gz", "rows": 4, "kept": 1, "dropped": {"duplicate": 1, "collected_before": 1},
         "failed": {"broken_record": 1}, "read": {"records": 2, "pages": 2, "links": 3},
         "flaws": [{"offset": offset, "cause": "no gzip member"}]},
    ]);
    assert_eq!(serde_json::Value::from(lines), expected);
    let wrong = Config { against: vec![path("a.warc.wat.gz")], ..everything() };
    assert!(run(&wrong, &[path("b.warc.wat.gz")], &path("other"), &Silent).is_err(), "no table");
}

/// As a kill in the middle leaves it: some archives done, temporary files, some shards written, no marker.
#[test]
fn what_was_begun_is_finished_with_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let archives: Vec<_> = (0..4)
        .map(|number| {
            let path = folder.path().join(format!("{number}.warc.wat.gz"));
            let images: Vec<_> = (0..50)
                .map(|i| (format!("http://x.com/{}.jpg", (i * (number + 1)) % 70), format!("text number {i}")))
                .collect();
            let images: Vec<_> = images.iter().map(|(url, text)| (url.as_str(), text.as_str())).collect();
            fs::write(&path, record("http://p.com/", &images)).expect("room");
            path
        })
        .collect();
    let config = Config { shard_rows: 20, ..everything() };
    let files = |folder: &Path| -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
        entries.map(|path| (name(&path), fs::read(&path).expect("a file"))).collect()
    };
    let whole = folder.path().join("whole");
    run(&config, &archives, &whole, &Silent).expect("collected");
    let expected = files(&whole);
    assert!(expected.len() > 8, "shards, ledger and marker");
    // The first call sees two archives only, and one of them has changed since.
    let again = folder.path().join("again");
    let last = fs::read(&archives[1]).expect("there");
    fs::write(&archives[1], record("http://p.com/", &[("http://y.com/1.jpg", "an earlier text")])).expect("room");
    run(&config, &archives[..2], &again, &Silent).expect("collected");
    fs::write(&archives[1], last).expect("room");
    fs::create_dir_all(again.join(".runs")).expect("room");
    fs::write(again.join(".runs/.00002-000.pairs.tmp"), "half").expect("room");
    fs::write(again.join(".00003.parquet.tmp"), "half").expect("room");
    run(&config, &archives, &again, &Silent).expect("collected");
    assert_eq!(files(&again), expected);
    // With fewer archives there are fewer shards, and none is left of those before.
    run(&config, &archives[..1], &again, &Silent).expect("collected");
    assert_eq!(pairs(&again).len(), 50);
}

/// A server that has one archive, and another one only from the second time on.
#[test]
fn what_a_server_does_not_have_yet_is_tried_again() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    let asked = std::sync::Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && std::io::Read::read(&mut stream, &mut byte).expect("a request") == 1 {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let path = head.split(' ').nth(1).expect("a path").to_owned();
            let mut log = log.lock().expect("no panic");
            let known = path == "/a.warc.wat.gz" || log.contains(&path);
            log.push(path.clone());
            let body = record("http://p.com/", &[(&path, "a caption of five letters")]);
            let answer = if known {
                format!("200 OK\r\nContent-Length: {}", body.len())
            } else {
                "404 No\r\nContent-Length: 0".into()
            };
            stream
                .write_all(format!("HTTP/1.1 {answer}\r\nConnection: close\r\n\r\n").as_bytes())
                .expect("somebody reads");
            stream.write_all(if known { &body } else { b"" }).expect("somebody reads");
        }
    });
    let folder = tempfile::tempdir().expect("a temporary folder");
    let archives = ["a", "b"].map(|name| PathBuf::from(format!("{address}/{name}.warc.wat.gz")));
    let warnings = Warnings::default();
    let first = run(&everything(), &archives, folder.path(), &warnings).expect("collected");
    assert_eq!((first.counts.kept, first.counts.failed["unreadable_archive"]), (1, 1));
    let warnings = warnings.0.into_inner().expect("no panic");
    assert!(warnings[0].contains("b.warc.wat.gz: the server answers 404"), "{warnings:?}");
    let second = run(&everything(), &archives, folder.path(), &Silent).expect("collected");
    assert_eq!((second.counts.kept, second.counts.failed.len(), pairs(folder.path()).len()), (2, 0, 2));
    assert!(!folder.path().join(".runs").exists());
    run(&everything(), &archives, folder.path(), &Silent).expect("done");
    let asked = asked.lock().expect("no panic").clone();
    let mut sorted = asked.clone();
    sorted.sort();
    assert_eq!(sorted, ["/a.warc.wat.gz", "/b.warc.wat.gz", "/b.warc.wat.gz"], "what is done is not asked for again");
}
