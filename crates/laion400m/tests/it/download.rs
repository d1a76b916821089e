//! `download` as img2dataset's users call it, from a server whose answers change.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dataset::carried;
use dataset::schema::ImageRow;
use dataset::shard::{Layout, ShardReader, Stats};
use dataset::table::{further_columns, read_table};
use dataset::{Pixels, ShardId, file_sha256, picture};
use fs_err as fs;
use serde_json::{Value, json};

use crate::support::{call, files, random, run_or_kill};

type Answers = BTreeMap<String, Vec<u8>>;

/// Pictures by their paths; whatever else is asked for is not there. It notes what was asked for.
struct Site {
    folder: tempfile::TempDir,
    port: u16,
    answers: Arc<Mutex<Answers>>,
    asked: Arc<Mutex<Vec<String>>>,
    /// Whether every answer takes a moment.
    slow: Arc<AtomicBool>,
}

impl Site {
    fn new(pictures: &[(&str, u8)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let site = Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            port,
            answers: Arc::default(),
            asked: Arc::default(),
            slow: Arc::default(),
        };
        fs::create_dir(site.path("lists")).expect("room");
        for (path, grey) in pictures {
            site.put(path, jpeg(*grey));
        }
        let (answers, asked, slow) = (site.answers.clone(), site.asked.clone(), site.slow.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answers, asked) = (answers.clone(), asked.clone());
                let pause = Duration::from_millis(if slow.load(Ordering::Relaxed) { 4 } else { 0 });
                std::thread::spawn(move || {
                    std::thread::sleep(pause);
                    drop(answer(stream, &answers, &asked)); // a client that goes away is none of our business
                });
            }
        });
        site
    }

    fn put(&self, path: &str, body: Vec<u8>) {
        self.answers.lock().expect("no panic").insert(path.into(), body);
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.path(name).to_str().expect("a plain path").to_owned()
    }

    fn sha256(&self, bytes: &[u8]) -> String {
        let path = self.path("hashed");
        fs::write(&path, bytes).expect("room");
        file_sha256(&path).expect("a file")
    }

    /// What was asked for since the last call, but for robots.txt.
    fn asked(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut *self.asked.lock().expect("no panic"));
        asked.retain(|path| path != "/robots.txt");
        asked.sort();
        asked
    }

    /// Calls `download` with these further arguments, and gives exit status and rows.
    fn download(&self, list: &str, output: &str, more: &[&str]) -> (Option<i32>, Vec<ImageRow>) {
        let (list, folder) = (self.name(list), self.name(output));
        let arguments = ["download", &list, "-o", &folder, "--allow-private", "--retries", "0", "--quiet"];
        let said = call(&[&arguments[..], more].concat());
        assert_ne!(said.status, Some(2), "{said:?}");
        let table = self.path(output).join("00000.parquet");
        (said.status, if table.exists() { read_table(&table).expect("a table") } else { Vec::new() })
    }
}

fn answer(mut stream: TcpStream, answers: &Mutex<Answers>, asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut head = String::new();
    let mut lines = BufReader::new(stream.try_clone()?);
    while lines.read_line(&mut head)? > 2 {}
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let name = path.split('?').next().unwrap_or_default();
    let body = answers.lock().expect("no panic").get(name).cloned();
    asked.lock().expect("no panic").push(path);
    let (status, body) = body.map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
    write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len())?;
    stream.write_all(&body)
}

/// A picture of some noise, large enough for the recipe.
fn jpeg(grey: u8) -> Vec<u8> {
    let rgb = (0..120u32 * 90 * 3).map(|at| grey ^ (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    picture::encode_jpeg(&Pixels::new(120, 90, rgb).expect("full size"), 95).expect("a picture")
}

fn codes(rows: &[ImageRow]) -> Vec<&str> {
    rows.iter().map(|row| row.error_code.as_str()).collect()
}

fn stored(folder: &Path, layout: Layout) -> Vec<Option<Vec<u8>>> {
    let reader = ShardReader::open(folder, ShardId(0), layout, "jpg").expect("a shard");
    reader.map(|row| row.expect("sound").1).collect()
}

#[test]
fn every_layout_has_the_same_rows_pictures_and_columns() {
    let site = Site::new(&[("/1.jpg", 10), ("/2.jpg", 200)]);
    let list =
        format!("id,link,text\n7,{},a\n8,{},b\n9,{},c\n", site.url("/1.jpg"), site.url("/no.jpg"), site.url("/2.jpg"));
    fs::write(site.path("list.csv"), list).expect("room");
    let columns = ["--url-col", "link", "--caption-col", "text", "--save-additional-columns", "id"];
    let mut first = None;
    for (name, layout) in [
        ("webdataset", Layout::Webdataset),
        ("files", Layout::Files),
        ("parquet", Layout::Parquet),
        ("tfrecord", Layout::Tfrecord),
    ] {
        let (status, rows) = site.download("list.csv", name, &[&columns[..], &["--output-format", name]].concat());
        assert_eq!((status, codes(&rows)), (Some(1), vec!["kept", "http_4xx", "kept"]), "{name}");
        let further = further_columns::<ImageRow>(&site.path(name).join("00000.parquet")).expect("a table");
        let mut further = carried::objects(&further).expect("rows");
        further.iter_mut().for_each(|row| row.retain(|name, _| name == "id"));
        assert_eq!(json!(further), json!([{"id": 7}, {"id": 8}, {"id": 9}]), "{name}");
        let pictures = stored(&site.path(name), layout);
        assert_eq!(pictures.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
        let found = (rows, pictures);
        assert_eq!(first.get_or_insert_with(|| found.clone()), &found, "{name}");
        let stats: Stats =
            serde_json::from_slice(&fs::read(site.path(name).join("00000_stats.json")).expect("stats")).expect("JSON");
        assert_eq!((stats.count, stats.successes, stats.failed_to_download, stats.failed_to_resize), (3, 2, 1, 0));
    }
    let (status, rows) = site.download("list.csv", "dummy", &[&columns[..], &["--output-format", "dummy"]].concat());
    assert_eq!((status, rows), (Some(1), vec![]));
    let json: Value =
        serde_json::from_slice(&fs::read(site.path("files/00000/000000000.json")).expect("a file")).expect("JSON");
    assert_eq!((&json["id"], &json["caption"]), (&json!(7), &json!("a")));

    let mut more = columns.to_vec();
    more[5] = "width";
    let (list, output) = (site.name("list.csv"), site.name("x"));
    call(&[&["download", &list, "-o", &output], &more[..]].concat()).could_not_run(&["\"width\""]);
}

#[test]
fn only_rows_that_failed_are_asked_for_again() {
    for (format, layout) in [("webdataset", Layout::Webdataset), ("files", Layout::Files), ("parquet", Layout::Parquet)]
    {
        let site = Site::new(&[("/1.jpg", 10), ("/3.jpg", 90)]);
        let urls = ["/1.jpg", "/2.jpg", "/3.jpg", "/4.jpg"].map(|path| site.url(path));
        fs::write(site.path("list.txt"), urls.join("\n")).expect("room");
        let more = ["--output-format", format];
        let (status, rows) = site.download("list.txt", "out", &more);
        assert_eq!((status, codes(&rows)), (Some(1), vec!["kept", "http_4xx", "kept", "http_4xx"]));
        site.asked();
        site.put("/2.jpg", jpeg(40));
        assert_eq!(site.download("list.txt", "out", &more).0, Some(1), "what is done is done");
        assert_eq!(site.asked(), [""; 0]);

        let (status, again) = site.download("list.txt", "out", &[&more[..], &["--retry-failed"]].concat());
        assert_eq!((status, codes(&again)), (Some(1), vec!["kept", "kept", "kept", "http_4xx"]), "{format}");
        assert_eq!(site.asked(), ["/2.jpg", "/4.jpg"]);
        assert_eq!([&again[0], &again[2]], [&rows[0], &rows[2]]);

        // The shard is that of a call to which the picture was there from the start.
        let (_, fresh) = site.download("list.txt", "fresh", &more);
        assert_eq!(again, fresh);
        assert_eq!(stored(&site.path("out"), layout), stored(&site.path("fresh"), layout));
        let bytes = |folder: &str| {
            let mut files = files(&site.path(folder));
            files.retain(|path, _| {
                !path.to_str().is_some_and(|path| path.contains("_stats") || path.starts_with(".pairs"))
            });
            files
        };
        assert!(bytes("out") == bytes("fresh"), "{format}: other bytes");
    }
}

#[test]
fn what_is_blocked_leaves_no_trace_but_hashes() {
    let site = Site::new(&[("/1.jpg", 10), ("/2.jpg", 40), ("/3.jpg", 90)]);
    let urls = ["/1.jpg", "/2.jpg", "/3.jpg"].map(|path| site.url(path));
    fs::write(
        site.path("list.csv"),
        format!("url,text,id\n{},one,1\n{},two,2\n{},three,3\n", urls[0], urls[1], urls[2]),
    )
    .expect("room");
    let columns = ["--caption-col", "text", "--save-additional-columns", "id"];
    let (status, rows) = site.download("list.csv", "out", &columns);
    assert_eq!((status, codes(&rows)), (Some(0), vec!["kept"; 3]));
    site.asked();

    // The list grows; the shard that is done is looked through, and nothing is asked for.
    let hash = site.sha256(&jpeg(40));
    fs::write(site.path("hashes"), format!("# from somebody\n{hash}\n")).expect("room");
    fs::write(site.path("urls"), &urls[2]).expect("room");
    let (hashes, blocked_urls) = (site.name("hashes"), site.name("urls"));
    let block = [&columns[..], &["--block-hashes", &hashes, "--block-urls", &blocked_urls]].concat();
    let (status, rows) = site.download("list.csv", "out", &block);
    assert_eq!((status, codes(&rows)), (Some(0), vec!["kept", "hash_blocked", "url_blocked"]));
    assert_eq!(site.asked(), [""; 0]);
    let (_, fresh) = site.download("list.csv", "fresh", &block);
    assert_eq!(codes(&fresh), codes(&rows));
    assert_eq!(site.asked(), ["/1.jpg", "/2.jpg"], "a blocked URL is not asked for");
    for folder in ["out", "fresh"] {
        let tar = fs::read(site.path(folder).join("00000.tar")).expect("a tar");
        let table = fs::read(site.path(folder).join("00000.parquet")).expect("a table");
        for word in ["two", "three", &urls[1], &urls[2]] {
            let holds = |bytes: &[u8]| bytes.windows(word.len()).any(|part| part == word.as_bytes());
            assert!(!holds(&tar) && !holds(&table), "{folder}: {word}");
        }
        let further = further_columns::<ImageRow>(&site.path(folder).join("00000.parquet")).expect("a table");
        let ids: Vec<_> = carried::objects(&further).expect("rows").iter().map(|row| row["id"].clone()).collect();
        assert_eq!(ids, [json!(1), Value::Null, Value::Null], "{folder}");
        assert_eq!(stored(&site.path(folder), Layout::Webdataset).iter().flatten().count(), 1);
    }
    assert_eq!(rows[1].sha256.as_deref(), Some(&*hash));
    for row in [&rows[1], &rows[2], &fresh[1], &fresh[2]] {
        let told = [&row.url, &row.caption, &row.uid, &row.page_url].map(|text| text.as_str());
        assert_eq!((told, &row.final_url, &row.exif), ([""; 4], &None, &None), "{row:?}");
    }
}

#[test]
fn bytes_that_are_not_those_of_the_list_are_dropped() {
    let site = Site::new(&[("/1.jpg", 10), ("/2.jpg", 40)]);
    let hash = site.sha256(&jpeg(10));
    let list = format!("url,sha256\n{},{hash}\n{},{hash}\n", site.url("/1.jpg"), site.url("/2.jpg"));
    fs::write(site.path("list.csv"), list).expect("room");
    let (status, rows) = site.download("list.csv", "out", &["--verify-hash", "sha256"]);
    assert_eq!((status, codes(&rows)), (Some(0), vec!["kept", "hash_mismatch"]));
    assert_eq!(rows[1].status, "failed_to_download");
    assert!(rows[1].error_message.as_deref().is_some_and(|text| text.starts_with("hash mismatch")));
}

#[test]
fn bytes_are_kept_as_they_come_where_nothing_is_encoded_again() {
    let site = Site::new(&[("/1.jpg", 10)]);
    site.put("/2.jpg", b"no picture at all".to_vec());
    fs::write(site.path("list.txt"), [site.url("/1.jpg"), site.url("/2.jpg")].join("\n")).expect("room");
    let (status, rows) = site.download("list.txt", "out", &["--disable-all-reencoding"]);
    assert_eq!((status, codes(&rows)), (Some(0), vec!["kept", "kept"]));
    assert_eq!((rows[0].width, rows[0].bytes), (None, Some(jpeg(10).len() as i64)));
    let pictures = stored(&site.path("out"), Layout::Webdataset);
    assert_eq!(pictures, [Some(jpeg(10)), Some(b"no picture at all".to_vec())]);
}

/// `kill -9` at ten random moments, and a rerun each time: the shards are those of a call that nobody disturbed, and what is
/// there under its final name is whole at every moment.
#[test]
fn a_killed_download_goes_on_and_gives_the_same_bytes() {
    let (seed, mut random) = random();
    let site = Site::new(&[("/1.jpg", 10), ("/2.jpg", 40), ("/3.jpg", 90)]);
    site.slow.store(true, Ordering::Relaxed);
    for list in 0..6 {
        let urls = (0..40).map(|row| site.url(&format!("/{}.jpg?{list}-{row}", row % 4)));
        fs::write(site.path(&format!("lists/{list}.txt")), urls.collect::<Vec<_>>().join("\n")).expect("room");
    }
    let lists = site.name("lists");
    let arguments = |folder: &str| {
        let fixed = ["download", &lists, "--allow-private", "--retries", "0", "--quiet", "-o", folder];
        fixed.map(str::to_owned)
    };
    let shards = |folder: &str| {
        let folder = site.path(folder);
        // A run that is killed at once has not made it yet.
        let mut files = if folder.exists() { files(&folder) } else { BTreeMap::new() };
        files.retain(|path, _| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            !name.starts_with('.') && !name.ends_with("_stats.json")
        });
        files
    };
    let run = |folder: &str, moment| {
        let arguments = arguments(&site.name(folder));
        run_or_kill(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), moment)
    };
    let started = Instant::now();
    assert_eq!(run("calm", None), Some(1), "some pictures are not there");
    let whole = started.elapsed();
    let expected = shards("calm");
    let tars = expected.keys().filter(|path| path.extension().is_some_and(|ending| ending == "tar"));
    assert_eq!(tars.count(), 6);
    let (mut kills, mut runs) = (0, 0);
    while kills < 10 {
        let name = format!("disturbed-{runs}");
        runs += 1;
        loop {
            let moment = (kills < 10).then(|| whole.mul_f32(0.8 * random.unit()));
            let status = run(&name, moment);
            for (path, bytes) in shards(&name) {
                assert!(expected.get(&path) == Some(&bytes), "seed {seed}: {} is not whole", path.display());
            }
            match status {
                Some(status) => break assert_eq!(status, 1, "seed {seed}"),
                None => kills += 1,
            }
        }
        assert!(shards(&name) == expected, "seed {seed}: other shards");
    }
}
