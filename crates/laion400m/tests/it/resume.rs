use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use dataset::schema::KeptRow;
use dataset::table::write_table;
use dataset::webdataset::TarWriter;
use dataset::{SampleKey, ShardId};

use crate::support::{Web, call, files, program, random, run_or_kill};

/// `kill -9` at ten random moments, and a rerun each time: the packages are those of a run nobody disturbed.
#[test]
fn a_killed_build_goes_on_and_gives_the_same_bytes() {
    let (seed, mut random) = random();
    let web = Web::new(420);
    let (recipe, calm) = (web.name("recipe.toml"), web.name("calm"));
    let started = Instant::now();
    let said = call(&["build", &recipe, "-o", &calm, "--quiet"]);
    assert_eq!(said.status, Some(1), "some pictures cannot be had: {said:?}");
    let whole = started.elapsed();
    let expected = files(&web.path("calm/packages"));
    assert!(expected.len() > 20, "{:?}", expected.keys());

    let (mut kills, mut runs) = (0, 0);
    while kills < 10 {
        let name = format!("disturbed-{runs}");
        runs += 1;
        loop {
            // Some land in the first archive, some in the last package, most between.
            let moment = (kills < 10).then(|| whole.mul_f32(0.7 * random.unit()));
            let Some(status) = run_or_kill(&["build", &recipe, "-o", &web.name(&name), "--quiet"], moment) else {
                kills += 1;
                continue;
            };
            assert_eq!(status, 1, "seed {seed}");
            break;
        }
        let packages = files(&web.path(&name).join("packages"));
        let names =
            |files: &std::collections::BTreeMap<_, _>| files.keys().cloned().collect::<Vec<std::path::PathBuf>>();
        assert_eq!(names(&packages), names(&expected), "seed {seed}");
        for (path, bytes) in &expected {
            // What became of its rows tells whether the web or a kill is to blame.
            let report = |run: &str| fs_err::read_to_string(web.path(run).join("report.json")).unwrap_or_default();
            let told = || format!("{}\ninstead of\n{}", report(&name), report("calm"));
            assert!(packages[path] == *bytes, "seed {seed}: {} differs: {}", path.display(), told());
        }
        let verified = call(&["verify", &web.name(&name)]);
        assert_eq!(verified.status, Some(0), "seed {seed}: {verified:?}");
    }
}

#[test]
fn a_second_build_in_the_same_folder_is_refused_while_one_is_under_way() {
    let web = Web::new(120);
    let (recipe, run) = (web.name("recipe.toml"), web.name("run"));
    let mut first = program()
        .args(["build", &recipe, "-o", &run, "--quiet"])
        .stdout(Stdio::null())
        .spawn()
        .expect("the program starts");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !web.path("run/pairs").exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    call(&["build", &recipe, "-o", &run]).could_not_run(&["run", "another process"]);
    first.kill().expect("it runs");
    first.wait().expect("it is dead");
}

fn row_of(key: String) -> KeptRow {
    KeptRow {
        image_path: key.clone(),
        caption: format!("picture {key}"),
        url: format!("http://a.com/{key}.jpg"),
        key,
        page_url: String::new(),
        license: "?".into(),
        language: None,
        nsfw: "UNLIKELY".into(),
        similarity: 0.31,
        width: 1,
        height: 1,
        original_width: 1,
        original_height: 1,
        image_offset: 0,
        image_bytes: 0,
    }
}

/// Files of LAION-400M that are packed, and a `kill -9` at five random moments.
#[test]
fn a_killed_pack_gives_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let name = |name: &str| folder.path().join(name).to_str().expect("a plain path").to_owned();
    for shard in 0..3 {
        let path = folder.path().join(format!("laion/{shard:05}"));
        let mut tar = TarWriter::create(&path.with_extension("tar")).expect("a new file");
        let mut rows = Vec::new();
        for row in 0..3000 {
            let key = SampleKey { shard: ShardId(shard), row }.to_string();
            let picture = [b"\xFF\xD8\xFF".as_slice(), key.as_bytes(), &[7; 3000], b"\xFF\xD9"].concat();
            tar.push(&format!("{key}.jpg"), &picture).expect("room");
            rows.push(row_of(key));
        }
        tar.publish().expect("room");
        write_table(&path.with_extension("parquet"), rows).expect("room");
    }
    same_bytes_after_kills(5, folder.path(), |output, moment| {
        let formats = ["--format", "tfds,webdataset,parquet,hf", "--quiet"];
        run_or_kill(&[&["pack", &name("laion"), "-o", &name(output)], &formats[..]].concat(), moment)
    });
}

/// Archives that share half of their pairs, and a `kill -9` at ten random moments.
#[test]
fn a_killed_collect_gives_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let name = |name: &str| folder.path().join(name).to_str().expect("a plain path").to_owned();
    for archive in 0..8 {
        let mut records = String::new();
        for page in archive * 150..archive * 150 + 300 {
            let link = |i| format!(r#"{{"path":"IMG@/src","url":"/{page}/{i}.jpg","alt":"a red car number {i}"}}"#);
            let links = (0..100).map(link).collect::<Vec<_>>().join(",");
            let json = format!(
                r#"{{"Envelope":{{"Payload-Metadata":{{"HTTP-Response-Metadata":{{"HTML-Metadata":{{"Links":[{links}]}}}}}},"WARC-Header-Metadata":{{"WARC-Target-URI":"http://a.com/{page}"}}}}}}"#
            );
            let head = format!("WARC/1.0\r\nWARC-Type: metadata\r\nContent-Length: {}\r\n\r\n", json.len());
            records.extend([&head, &json, "\r\n\r\n"]);
        }
        fs_err::write(folder.path().join(format!("{archive}.warc.wat")), records).expect("room");
    }
    same_bytes_after_kills(10, folder.path(), |output, moment| {
        run_or_kill(&["collect", &name("*.warc.wat"), "-o", &name(output), "--quiet", "--languages", "any"], moment)
    });
    let pairs = fs_err::read_to_string(folder.path().join("calm/pairs.json")).expect("a marker");
    let counts: serde_json::Value = serde_json::from_str(&pairs).expect("JSON");
    assert_eq!((&counts["kept"], &counts["dropped"]["duplicate"]), (&135_000.into(), &105_000.into()));
}

/// Does some work into `calm`, and into `disturbed` with as many kills, each followed by a rerun.
fn same_bytes_after_kills(most: u32, folder: &Path, work: impl Fn(&str, Option<Duration>) -> Option<i32>) {
    let (seed, mut random) = random();
    let started = Instant::now();
    assert_eq!(work("calm", None), Some(0));
    let whole = started.elapsed();
    let expected = files(&folder.join("calm"));
    let mut kills = 0;
    while kills < most {
        kills += u32::from(work("disturbed", Some(whole.mul_f32(random.unit()))).is_none());
        assert_eq!(work("disturbed", None), Some(0), "seed {seed}");
        let found = files(&folder.join("disturbed"));
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "seed {seed}");
        assert!(found == expected, "seed {seed}: other bytes after {kills} kills");
        fs_err::remove_dir_all(folder.join("disturbed")).expect("there");
    }
}
