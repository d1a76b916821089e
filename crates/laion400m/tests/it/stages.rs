use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use dataset::npy::MatrixReader;
use dataset::schema::{ImageRow, KeptRow, ReleaseRow};
use dataset::table::read_table;
use dataset::tfds::{Config, TfdsReader};
use dataset::webdataset::{read_samples, tar_path};
use dataset::{EmbeddingFiles, Packages, list_shards};
use fs_err as fs;
use serde_json::Value;

use crate::support::{Web, adds_up, call, files, program};

/// Every stage called by hand, its `--json` one entry of the report, its packages those of `build`.
#[test]
fn the_stages_one_by_one_make_what_build_makes() {
    let web = Web::new(150);
    let path = |name: &str| web.name(&format!("by-hand/{name}"));
    let archives = web.name("crawl/*.warc.wat.gz");
    let run = web.name("by-hand");
    fs::create_dir(web.path("by-hand")).expect("room");
    fs::write(web.path("collect.toml"), "shard_rows = 100\n").expect("room");
    let calls: [(&str, &[&str], i32); 6] = [
        ("collect", &[&archives, "-o", &path("pairs"), "--config", &web.name("collect.toml")], 0),
        ("download", &[&path("pairs"), "-o", &path("images"), "--allow-private", "--timeout-ms", "10000"], 1),
        ("embed", &[&path("images"), "-o", &path("embeddings")], 0),
        ("filter", &[&path("embeddings"), "-o", &path("curated"), "--similarity-min", "0.3"], 0),
        ("pack", &[&run], 0),
        ("index", &[&run], 0),
    ];
    let mut entries = Vec::new();
    for (stage, arguments, status) in calls {
        let arguments = [&[stage, "--json"], arguments].concat();
        let said = call(&arguments);
        assert_eq!(said.status, Some(status), "{said:?}");
        let entry = said.json();
        assert_eq!(entry["stage"], stage);
        adds_up(&entry);
        assert_eq!(call(&arguments).json(), entry, "a second call does nothing and says the same");
        entries.push(entry);
    }
    let built = call(&["build", &web.name("recipe.toml"), "-o", &web.name("built"), "--json"]);
    assert_eq!(built.status, Some(1), "{built:?}");
    assert_eq!(built.json(), serde_json::json!({"stages": entries}));
    assert!(files(&web.path("by-hand/packages")) == files(&web.path("built/packages")), "the packages differ");
    assert_eq!(call(&["verify", &run]).status, Some(0));
    // A package is an input like any other: the pictures of the run, packed again, are the same package.
    let again = call(&["pack", &path("packages/webdataset"), "-o", &path("again"), "--json"]);
    assert_eq!((again.status, &again.json()["kept"]), (Some(0), &entries[4]["kept"]), "{again:?}");
    let (again, before) = ("by-hand/again/laion400m/images", "by-hand/packages/tfds/laion400m/images");
    assert!(files(&web.path(again)) == files(&web.path(before)), "another package");
    another_threshold_needs_no_model(&web, &entries[3]);
    the_forms_of_a_run_do_not_depend_on_where_its_rows_are(&web);
    a_list_of_keys_is_packed_alone(&web);
    a_list_gives_the_pictures_of_its_urls(&web);
    the_service_answers(&run);
    stats_and_verify_take_a_tfds_folder(&web);
    stats_shows_what_the_threshold_of_a_run_did(&web, &entries[3]);
}

/// As `filter` counted it, and with the pictures that the run has: those of kept pairs.
fn stats_shows_what_the_threshold_of_a_run_did(web: &Web, filtered: &Value) {
    let (run, html) = (web.name("built"), web.name("built.html"));
    let said = call(&["stats", &run, "--json", "--html", &html]).json();
    let too_low = filtered["dropped"]["similarity_too_low"].as_u64().expect("some");
    let rows = filtered["rows"].as_u64().expect("rows");
    assert_eq!(said["stages"][3], *filtered);
    assert_eq!(said["calibration"]["chosen"]["matched"], rows - too_low);
    assert!(said["calibration"]["chosen"]["mismatched_share"].as_f64() < Some(0.2), "{said}");
    let text = call(&["stats", &run]).stdout;
    assert!(text.starts_with("stage ") && text.contains("\n>       0.30"), "{text}");

    let page = call(&["stats", &run, "--similarity-min", "0.56", "--html", &html]);
    assert_eq!(page.status, Some(0), "{page:?}");
    let page = fs::read_to_string(web.path("built.html")).expect("written");
    let pictures = page.matches("src=\"data:image/jpeg;base64,").count();
    assert!(pictures > 6 && page.matches(" · UNLIKELY").count() == pictures, "{pictures}");
}

/// What the first `filter` left beside the embeddings is enough for others: the model may be gone.
fn another_threshold_needs_no_model(web: &Web, before: &Value) {
    let embeddings = web.name("by-hand/embeddings");
    let gone = web.name("gone/clip-vit-base-patch32");
    let filter = |output: &str, arguments: &[&str]| {
        let output = web.name(output);
        call(&[&["filter", &embeddings, "-o", &output, "--model", &gone, "--json"], arguments].concat())
    };
    let same = filter("same", &[]);
    assert_eq!((same.status, &same.json()), (Some(0), before), "{same:?}");
    let loose = filter("loose", &["--similarity-min", "-1"]);
    assert_eq!(loose.status, Some(0), "{loose:?}");
    adds_up(&loose.json());
    let dropped = |entry: &Value| entry["dropped"]["similarity_too_low"].as_u64().unwrap_or_default();
    assert!(dropped(&loose.json()) == 0 && dropped(before) > 0, "{loose:?}");
    let loose = &["--similarity-min", "-1", "--tag-only"][..];
    let alike = filter("alike", &[loose, &["--near-duplicates", "0.8", "--rules", "laion400m-2021"]].concat()).json();
    adds_up(&alike);
    assert!(alike["dropped"]["near_duplicate"].as_u64() > Some(0), "{alike}");
    fs::remove_file(web.path("by-hand/embeddings/prompts.safetensors")).expect("left by the first run");
    filter("without", &[]).could_not_run(&["open model", "clip-vit-base-patch32"]);
    call(&["filter", &web.name("misspelt"), "-o", &web.name("without")]).could_not_run(&["misspelt"]);
    assert!(!web.path("misspelt").exists() && !web.path("without").exists());
}

/// Any table with URLs is a list: a shard of pairs gives the same pictures under the same keys.
fn a_list_gives_the_pictures_of_its_urls(web: &Web) {
    let list = web.name("by-hand/pairs/00000.parquet");
    let listed = web.name("listed");
    let arguments = ["download", &list, "--caption-col", "caption", "-o", &listed, "--allow-private"];
    let arguments = [&arguments[..], &["--timeout-ms", "10000"]].concat();
    let said = call(&arguments);
    assert_eq!(said.status, Some(1), "{said:?}");
    let rows = |folder: &str| {
        let rows = read_table::<ImageRow>(&web.path(folder).join("00000.parquet")).expect("a table");
        let known = rows.into_iter().map(|row| (row.key, row.url, row.caption, row.error_code, row.sha256));
        known.collect::<Vec<_>>()
    };
    assert_eq!(rows("listed"), rows("by-hand/images"));
    let before = files(&web.path("listed"));
    assert_eq!(call(&arguments).status, Some(1), "a second call says the same");
    assert!(files(&web.path("listed")) == before, "and changes nothing");
    call(&["download", &list, "--url-col", "link", "-o", &web.name("other")])
        .could_not_run(&["00000.parquet", "\"link\""]);
}

/// `--format` makes one form alone, out of the stages' folders or out of packages, or adds it to those that are there.
fn the_forms_of_a_run_do_not_depend_on_where_its_rows_are(web: &Web) {
    let pack = |run: &str, output: &str, formats: &str| {
        let (run, output) = (web.name(run), web.name(output));
        let said = call(&["pack", &run, "-o", &output, "--format", formats, "--json"]);
        assert_eq!(said.status, Some(0), "{said:?}");
        said.json()
    };
    let all = pack("by-hand", "by-hand/packages", "hf");
    let only = pack("by-hand", "only", "hf,tfds");
    assert_eq!((&all["kept"], &all["dropped"]), (&only["kept"], &only["dropped"]));
    assert!(!web.path("only/webdataset").exists());
    assert_eq!(pack("built", "built-hf", "hf"), all, "this run keeps no pictures but those of its packages");
    assert_eq!(pack("by-hand", "parts", "npy")["kept"], all["kept"]);
    pack("by-hand", "parts", "parquet,webdataset");
    for (package, others) in [
        ("hf", &["only", "built-hf"][..]),
        ("tfds/laion400m", &["only"]),
        ("webdataset", &["parts"]),
        ("metadata", &["parts"]),
    ] {
        let expected = files(&web.path("by-hand/packages").join(package));
        assert!(expected.contains_key(Path::new("croissant.json")) || package.starts_with("tfds"), "{package}");
        for other in others {
            assert!(files(&web.path(other).join(package)) == expected, "{other}/{package}");
        }
    }
    let sizes = fs::read(web.path("by-hand/packages/webdataset/sizes.json")).expect("written");
    let sizes: BTreeMap<String, u64> = serde_json::from_slice(&sizes).expect("sizes");
    assert_eq!(Some(sizes.values().sum()), all["kept"].as_u64());
    assert_eq!(call(&["verify", &web.name("by-hand")]).status, Some(0));
    for folder in ["only", "parts/webdataset", "by-hand/packages/hf", "by-hand/packages/embeddings"] {
        assert_eq!(call(&["verify", &web.name(folder)]).status, Some(0), "{folder}");
    }
}

/// `--keys` packs the listed rows in every form, the same out of stages' folders and out of packages; another list
/// replaces them, and what is not there is told before anything is written.
fn a_list_of_keys_is_packed_alone(web: &Web) {
    let kept: Vec<KeptRow> = list_shards(&web.path("by-hand/packages/webdataset"), "parquet")
        .expect("packed")
        .into_iter()
        .flat_map(|id| {
            read_table(&web.path("by-hand/packages/webdataset").join(format!("{id}.parquet"))).expect("a table")
        })
        .collect();
    let (first, last) = (&kept[0], kept.last().expect("kept rows"));
    assert_ne!(first.key[..5], last.key[..5], "of two shards");
    let list = web.name("keys.txt");
    let pack = |run: &str, output: &str, keys: &[&str]| {
        fs::write(web.path("keys.txt"), keys.join("\n")).expect("room");
        let (run, output) = (web.name(run), web.name(output));
        let formats = "webdataset,npy,parquet,tfds,hf";
        call(&["pack", &run, "--keys", &list, "-o", &output, "--format", formats, "--json"])
    };
    let chosen = [last.key.as_str(), "", &kept[1].key, &first.key, &last.key, " "];
    for (run, output) in [("by-hand", "listed-by-hand"), ("built", "listed-built")] {
        let said = pack(run, output, &chosen);
        assert_eq!(said.status, Some(0), "{said:?}");
        adds_up(&said.json());
        assert_eq!(said.json()["kept"], 3);
        assert_eq!(call(&["verify", &web.name(output)]).status, Some(0));
    }
    let there = files(&web.path("listed-by-hand"));
    assert!(
        there == files(&web.path("listed-built")),
        "a run without pictures but those of its packages gives the same"
    );
    packages_hold(web, "listed-by-hand", &[first, &kept[1], last]);

    // A single form, made without the others, is the same.
    fs::write(web.path("keys.txt"), chosen.join("\n")).expect("room");
    for (format, folder) in [("hf", "hf"), ("tfds", "tfds/laion400m"), ("npy", "embeddings")] {
        let output = web.name(&format!("listed-{format}"));
        let said = call(&["pack", &web.name("built"), "--keys", &list, "-o", &output, "--format", format]);
        assert_eq!(said.status, Some(0), "{said:?}");
        let (alone, among) = (files(&web.path(&format!("listed-{format}/{folder}"))), web.path("listed-by-hand"));
        let rows = |files: &BTreeMap<PathBuf, Vec<u8>>| {
            let mut names: Vec<_> = files.keys().cloned().collect();
            names.retain(|name| !name.ends_with("croissant.json") && !name.starts_with("metadata"));
            names
        };
        let among = files(&among.join(folder));
        assert_eq!(rows(&alone), rows(&among));
        rows(&alone).iter().for_each(|name| assert!(alone[name] == among[name], "{format}: {}", name.display()));
    }

    // Another list takes the place of the first, with nothing left of it.
    let said = pack("built", "listed-built", &[&last.key]);
    assert_eq!((said.status, &said.json()["kept"]), (Some(0), &1.into()), "{said:?}");
    packages_hold(web, "listed-built", &[last]);
    let before = files(&web.path("listed-built"));
    let dropped = (0..).map(|row| format!("00000{row:04}")).find(|key| kept.iter().all(|row| row.key != *key));
    let dropped = dropped.expect("one was not kept");
    let unknown = [last.key.as_str(), &dropped, "987650000", &dropped];
    pack("built", "listed-built", &unknown).could_not_run(&["keys.txt", "2 of 3 keys", &format!("first {dropped}")]);
    pack("built", "listed-built", &["000000001", "../etc"]).could_not_run(&["keys.txt", "line 2", "../etc"]);
    pack("built", "listed-built", &["", ""]).could_not_run(&["keys.txt", "no keys"]);
    assert!(files(&web.path("listed-built")) == before, "a list that is wrong changes nothing");
    pack("built", "built/packages", &[&last.key]).could_not_run(&["packages", "another output"]);
    pack("by-hand", "parts", &[&last.key]).could_not_run(&["parts", "another output"]);
    pack("built/packages/webdataset", "none", &[&last.key]).could_not_run(&["--keys", "webdataset is none"]);
    assert_eq!(call(&["pack", &web.name("built"), "--keys", &list]).status, Some(2), "it must be said where to");
}

/// Tars, matrices, both tables and TFDS have these rows and no others.
fn packages_hold(web: &Web, output: &str, rows: &[&KeptRow]) {
    let captions: Vec<_> = rows.iter().map(|row| row.caption.as_str()).collect();
    let packages = Packages::new(web.path(output));
    let (mut tables, mut tars, mut release, mut texts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let shards = list_shards(&packages.webdataset(), "parquet").expect("packed");
    for &id in &shards {
        let rows: Vec<KeptRow> = read_table(&packages.webdataset().join(format!("{id}.parquet"))).expect("a table");
        tables.extend(rows.into_iter().map(|row| row.caption));
        read_samples(&tar_path(&packages.webdataset(), id), |mut sample| {
            tars.push(String::from_utf8(sample.files.remove("txt").expect("a caption")).expect("text"));
            Ok(())
        })
        .expect("a tar");
        let part = packages.metadata().join(format!("part-{id}.snappy.parquet"));
        release.extend(read_table::<ReleaseRow>(&part).expect("a table").into_iter().map(|row| row.text));
        let matrix = MatrixReader::open(&EmbeddingFiles::of(&packages.embeddings(), id).text).expect("a matrix");
        texts.push(matrix.rows());
    }
    assert_eq!((&tables, &tars, &release), (&captions.iter().map(|c| (*c).to_owned()).collect(), &tables, &tables));
    assert_eq!(texts.iter().sum::<usize>(), rows.len());
    for config in Config::ALL {
        let folder = dataset::tfds::folder(&packages.tfds(), config);
        let mut found: Vec<_> =
            TfdsReader::open(&folder).expect("packed").map(|example| example.expect("sound").caption).collect();
        let mut captions = captions.clone();
        found.sort();
        captions.sort_unstable();
        assert_eq!(found, captions);
    }
    for folder in ["webdataset", "embeddings", "metadata"] {
        let files = files(&web.path(output).join(folder));
        let parquet = files.keys().filter(|path| path.extension().is_some_and(|ending| ending == "parquet")).count();
        assert_eq!(parquet, shards.len(), "{folder}");
    }
}

/// A process that does not outlive its test.
struct Kill(Child);

impl Drop for Kill {
    fn drop(&mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it is dead");
    }
}

/// `serve` on a port that is free says where it is, and answers there.
fn the_service_answers(run: &str) {
    let mut serving = program();
    let mut serving =
        Kill(serving.args(["serve", run, "--port", "0"]).stderr(Stdio::piped()).spawn().expect("the program starts"));
    let mut said = Vec::new();
    let mut stderr = serving.0.stderr.take().expect("piped");
    let mut byte = [0];
    while !said.ends_with(b"\n") && stderr.read(&mut byte).expect("readable") == 1 {
        said.push(byte[0]);
    }
    let said = String::from_utf8(said).expect("text");
    let address = said.split_once("http://").and_then(|(_, rest)| rest.split_once('/')).expect("an address").0;
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "GET /api/v1/search?text=red HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
        .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let body = answer.split_once("\r\n\r\n").expect("a body").1;
    let results = serde_json::from_str::<Value>(body).expect("JSON");
    assert!(!results["results"].as_array().expect("results").is_empty());
    let port = address.rsplit_once(':').expect("a port").1;
    call(&["serve", run, "--port", port]).could_not_run(&["listen on", address, "in use"]);
}

fn stats_and_verify_take_a_tfds_folder(web: &Web) {
    let release = fs::read_dir(web.path("built/packages/metadata")).expect("packed").count();
    assert!(release > 0);
    for config in ["images", "embeddings"] {
        let folder = web.name(&format!("built/packages/tfds/laion400m/{config}/1.0.0"));
        let stats = call(&["stats", &folder, "--json"]).json();
        let report = call(&["stats", &web.name("built"), "--json"]).json();
        assert_eq!(stats["examples"], report["stages"][4]["kept"]);
        assert!(stats["similarity"]["least"].as_f64() >= Some(0.3), "{stats}");
        assert_eq!(call(&["verify", &folder]).status, Some(0));
        let shard =
            web.path(&format!("built/packages/tfds/laion400m/{config}/1.0.0/laion400m-train.tfrecord-00000-of-00001"));
        let mut bytes = fs::read(&shard).expect("packed");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&shard, bytes).expect("room");
        let damaged = call(&["verify", &folder]);
        assert_eq!(damaged.status, Some(1), "{damaged:?}");
        assert!(damaged.stdout.contains("tfrecord-00000-of-00001"), "{damaged:?}");
    }
}
