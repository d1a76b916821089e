use std::io::{Read, Write};
use std::process::Command;

use fs_err as fs;
use serde_json::Value;

use crate::support::{Said, Web, call, program};

fn collect(web: &Web, archives: &[&str], output: &str) -> Said {
    let output = web.name(output);
    call(&[&["collect", "--json", "-o", &output], archives].concat())
}

fn kept(said: &Said) -> u64 {
    said.json()["kept"].as_u64().expect("a count")
}

#[test]
fn a_missing_archive_costs_only_itself() {
    let web = Web::new(200);
    let archives = web.archives();
    let all = collect(&web, &[&archives[0], &archives[1]], "all");
    assert_eq!((all.status, all.stderr.as_str()), (Some(0), ""));
    let one = collect(&web, &[&archives[0]], "one");
    let missing = web.name("crawl/missing.warc.wat.gz");
    let said = collect(&web, &[&archives[0], &missing], "some");
    assert_eq!(said.status, Some(1), "{said:?}");
    assert_eq!(said.stderr.lines().count(), 1, "{said:?}");
    assert!(said.stderr.contains(&missing) && said.stderr.contains("No such file"), "{said:?}");
    assert_eq!(kept(&said), kept(&one));
    assert_eq!(said.json()["failed"]["unreadable_archive"], 1);
    // Once it has come, the same call takes it, too.
    fs::copy(&archives[1], &missing).expect("room");
    let said = collect(&web, &[&archives[0], &missing], "some");
    assert_eq!((said.status, kept(&said)), (Some(0), kept(&all)));
    collect(&web, &[&web.name("nothing.wat.gz")], "none").could_not_run(&["none of 1 archives"]);
    collect(&web, &[&web.name("nothing/*.wat.gz")], "none").could_not_run(&["nothing"]);
}

#[test]
fn a_truncated_archive_gives_what_is_before_the_damage() {
    let web = Web::new(200);
    let archive = &web.archives()[0];
    let whole = kept(&collect(&web, &[archive], "whole"));
    let bytes = fs::read(archive).expect("written");
    fs::write(archive, &bytes[..bytes.len() * 2 / 3]).expect("room");
    let said = collect(&web, &[archive], "cut");
    assert_eq!(said.status, Some(1), "{said:?}");
    assert_eq!(said.json()["failed"]["broken_record"], 1, "{said:?}");
    assert!((whole / 2..whole).contains(&kept(&said)), "{} of {whole}", kept(&said));
    let line = said.stderr.trim_end();
    assert!(line.contains(archive) && line.contains("byte ") && line.lines().count() == 1, "{said:?}");
}

#[test]
fn a_broken_record_costs_only_itself() {
    let web = Web::new(200);
    let archive = &web.archives()[0];
    let whole = kept(&collect(&web, &[archive], "whole"));
    let mut bytes = fs::read(archive).expect("written");
    let member = b"\x1F\x8B\x08";
    let starts: Vec<usize> = (0..bytes.len() - 3).filter(|&at| bytes[at..].starts_with(member)).collect();
    let middle = (starts[starts.len() / 2] + starts[starts.len() / 2 + 1]) / 2;
    bytes[middle..middle + 20].fill(0xFF);
    fs::write(archive, bytes).expect("room");
    let said = collect(&web, &[archive], "damaged");
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(said.json()["failed"]["broken_record"].as_u64() >= Some(1), "{said:?}");
    assert!(kept(&said) > whole * 8 / 10 && kept(&said) <= whole, "{} of {whole}", kept(&said));
}

#[test]
fn what_is_no_archive_is_said_to_be_none() {
    let web = Web::new(60);
    fs::write(web.path("text.warc.wat.gz"), "<html>Not Found</html>").expect("room");
    let text = web.name("text.warc.wat.gz");
    let said = collect(&web, &[&text, &web.archives()[0]], "pairs");
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(said.stderr.contains(&text) && kept(&said) > 0, "{said:?}");
    // An archive without pages has no links to give.
    let mut plain = String::new();
    let wat = fs::read(&web.archives()[0]).expect("written");
    flate2::read::MultiGzDecoder::new(&wat[..]).read_to_string(&mut plain).expect("gzip");
    let first = plain.find("WARC/1.0\r\nWARC-Type: metadata").expect("a metadata record");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain.as_bytes()[..first]).expect("memory");
    fs::write(web.path("empty.warc.wat.gz"), gzip.finish().expect("memory")).expect("room");
    let said = collect(&web, &[&web.name("empty.warc.wat.gz")], "no-links");
    assert!(said.stderr.contains("is it a WAT or WARC archive?"), "{said:?}");
}

#[test]
fn a_recipe_with_a_misspelt_setting_is_refused_by_name() {
    let web = Web::new(60);
    fs::write(web.path("bad.toml"), "archives = [\"crawl/*.wat.gz\"]\n[filter]\nsimilarty_min = 0.2\n").expect("room");
    let (bad, run) = (web.name("bad.toml"), web.name("run"));
    let said = call(&["build", &bad, "-o", &run]);
    assert_eq!(said.status, Some(2));
    for part in ["bad.toml", "line 3", "similarty_min"] {
        assert!(said.stderr.contains(part), "{part}: {said:?}");
    }
    let layout = "archives = [\"crawl/*.wat.gz\"]\n[download]\noutput_format = \"files\"\n";
    fs::write(web.path("layout.toml"), layout).expect("room");
    call(&["build", &web.name("layout.toml"), "-o", &run]).could_not_run(&["layout.toml", "output_format"]);
    assert!(!web.path("run").exists(), "nothing was begun");
    call(&["build", &web.name("none.toml"), "-o", &run]).could_not_run(&["none.toml"]);
}

#[test]
fn a_recipe_that_nobody_here_can_compute_is_refused_before_anything_is_done() {
    let web = Web::new(60);
    let (recipe, run) = (web.name("recipe.toml"), web.name("run"));
    fs::create_dir_all(web.path("environment/lib/python3.13/site-packages")).expect("room");
    let mut build = program();
    build.args(["build", &recipe, "-o", &run, "--device", "cuda"]).env("VIRTUAL_ENV", web.path("environment"));
    Said::from(build.output().expect("the program starts"))
        .could_not_run(&["open model tiny", "CUDA needs its library"]);
    let text = fs::read_to_string(&recipe).expect("written");
    let with = |precision: &str| {
        fs::write(&recipe, format!("{text}[embed]\nprecision = \"{precision}\"\n")).expect("room");
        call(&["build", &recipe, "-o", &run])
    };
    with("bfloat16").could_not_run(&["open model tiny", "other bits than 32"]);
    with("int4").could_not_run(&["recipe.toml", "line "]);
    assert!(with("int4").stderr.contains("unknown variant `int4`, expected one of `float32`"));
    assert!(!web.path("run").exists(), "nothing was begun");
}

#[test]
fn a_run_folder_refuses_another_recipe() {
    let web = Web::new(60);
    let run = web.name("run");
    assert_eq!(call(&["build", &web.name("recipe.toml"), "-o", &run, "--quiet"]).status, Some(1));
    let recipe = fs::read_to_string(web.path("recipe.toml")).expect("written");
    fs::write(web.path("other.toml"), recipe + "[filter]\nsimilarity_min = 0.2\n").expect("room");
    let said = call(&["build", &web.name("other.toml"), "-o", &run]);
    said.could_not_run(&["another recipe", "recipe.toml", "choose another run folder"]);
}

#[test]
fn folders_that_are_not_what_they_should_be_are_named() {
    let web = Web::new(60);
    let empty = web.name("empty");
    fs::create_dir(web.path("empty")).expect("room");
    for command in ["stats", "verify", "serve", "index"] {
        call(&[command, &empty]).could_not_run(&["empty"]);
    }
    call(&["search", &empty, "a red circle"]).could_not_run(&["empty"]);
    for command in ["download", "embed", "filter"] {
        call(&[command, &web.name("none"), "-o", &empty]).could_not_run(&["none"]);
    }
    call(&["embed", &empty, "-o", &web.name("out"), "--model", &empty]).could_not_run(&["open model", "config.json"]);
}

/// A file size limit stands in for a full disk: both are errors of `write`.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_without_room_ends_the_run_and_a_rerun_goes_on() {
    let web = Web::new(150);
    let (recipe, run) = (web.name("recipe.toml"), web.name("run"));
    let limited = |blocks: u32| -> Said {
        let mut shell = Command::new("bash");
        // An ignored signal is inherited, so that writing too much is an error and not the end.
        shell.args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\""), "bash"]);
        shell.arg(program().get_program()).args(["build", &recipe, "-o", &run, "--json"]);
        shell.output().expect("bash starts").into()
    };
    let said = limited(60); // blocks of 1024 bytes: room for the pairs, none for a tar of pictures
    said.could_not_run(&["00000.tar", "File too large"]);
    assert!(web.path("run/pairs/pairs.json").exists(), "what was done stays");
    let said = call(&["build", &recipe, "-o", &run, "--json"]);
    assert_eq!(said.status, Some(1), "{said:?}");
    assert_eq!(said.json()["stages"].as_array().map(Vec::len), Some(6));
    assert_eq!(call(&["verify", &run, "--json"]).json()["problems"], Value::Array(Vec::new()));
}
