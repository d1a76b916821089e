use std::io::Read;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Web, call, program};

#[test]
fn progress_for_machines_is_a_json_object_a_line() {
    let web = Web::new(60);
    let said =
        call(&["collect", &web.name("crawl/*.warc.wat.gz"), "-o", &web.name("pairs"), "--progress", "json", "--json"]);
    let lines: Vec<Value> = said.stderr.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(lines.len() >= 2, "{said:?}");
    for line in &lines {
        assert_eq!(line["stage"], "collect");
        assert!(line["done"].as_u64() <= line["total"].as_u64(), "{line}");
    }
    let last = lines.last().expect("two at least");
    assert_eq!(last["done"], last["total"], "everything was read");
    assert_eq!(said.json()["stage"], "collect");
}

#[test]
fn quiet_says_nothing_but_the_result() {
    let web = Web::new(60);
    let archives = web.name("crawl/*.warc.wat.gz");
    for flag in ["--quiet", "--no-progress"] {
        let said = call(&["collect", &archives, "-o", &web.name(flag), flag]);
        assert_eq!((said.status, said.stderr.as_str()), (Some(0), ""));
        assert!(said.stdout.starts_with("stage "), "{said:?}");
    }
}

#[test]
fn a_reader_that_has_had_enough_is_no_error() {
    let web = Web::new(60);
    let mut child = program()
        .args(["collect", &web.name("crawl/*.warc.wat.gz"), "-o", &web.name("pairs")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert_eq!((child.wait().expect("a child").code(), said.as_str()), (Some(0), ""));
}

#[test]
fn help_names_every_command() {
    let said = call(&["--help"]);
    assert_eq!(said.status, Some(0));
    for command in [
        "demo", "build", "collect", "download", "embed", "filter", "pack", "index", "serve", "search", "stats",
        "verify",
    ] {
        assert!(said.stdout.lines().any(|line| line.trim_start().starts_with(command)), "{command}: {}", said.stdout);
        assert_eq!(call(&[command, "--help"]).status, Some(0), "{command}");
    }
    assert_eq!(call(&["colect"]).status, Some(2));
}
