//! A folder, a miniature web that is served, and the program.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fs_err as fs;
use miniweb::{Server, Settings, World};
use serde_json::Value;

/// The program, with no words of the environment it runs in.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_laion400m"));
    command.stdin(Stdio::null()).env_remove("NO_COLOR");
    command
}

/// What came of a call.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("text on stdout"),
            stderr: String::from_utf8(output.stderr).expect("text on stderr"),
        }
    }
}

impl Said {
    /// stdout as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The call could not be done, and one line says why, with all of `parts` in it.
    pub(crate) fn could_not_run(&self, parts: &[&str]) {
        assert_eq!(self.status, Some(2), "{self:?}");
        let errors: Vec<&str> = self.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        let [line] = errors[..] else { panic!("not one line: {self:?}") };
        for part in parts {
            assert!(line.contains(part), "{part:?} is missing in: {line}");
        }
        assert!(!self.stderr.contains("panicked"), "{self:?}");
    }
}

/// Runs the program to its end.
pub(crate) fn call(arguments: &[&str]) -> Said {
    program().args(arguments).output().expect("the program starts").into()
}

/// Runs the program and gives its status; or kills it at a moment it lives to see.
pub(crate) fn run_or_kill(arguments: &[&str], moment: Option<Duration>) -> Option<i32> {
    let mut command = program();
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the program starts");
    if let Some(moment) = moment {
        let deadline = Instant::now() + moment;
        while Instant::now() < deadline && child.try_wait().expect("a child").is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        if child.try_wait().expect("a child").is_none() {
            child.kill().expect("it runs");
            child.wait().expect("it is dead");
            return None;
        }
    }
    child.wait().expect("a child").code()
}

pub(crate) fn random() -> (u64, miniweb::Random) {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
    let seed = std::env::var("LAION400M_TEST_SEED").map_or(nanos, |seed| seed.parse().expect("a number"));
    println!("LAION400M_TEST_SEED={seed}");
    (seed, miniweb::Random::new(seed))
}

/// A miniature web that is served as long as this lives, its crawl, and a recipe over it.
pub(crate) struct Web {
    folder: tempfile::TempDir,
    _server: Server,
}

impl Web {
    pub(crate) fn new(pictures: usize) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        // A host that answers neither of two addresses in a row is taken for dead, and whether there was a third between them is for
        // the machine to say: with this seed no host has two that are never answered.
        let world = Arc::new(World::new(Settings { seed: 3, pictures, port }));
        miniweb::write_crawl(&world, &folder.path().join("crawl")).expect("room");
        let web = Self { _server: miniweb::serve(world, listener).expect("a server"), folder };
        // Ten seconds, so that a busy machine fails no picture that a quiet one gets.
        let recipe = "archives = [\"crawl/*.warc.wat.gz\"]\n\
                      [collect]\nshard_rows = 100\n\
                      [download]\nallow_private = true\ntimeout_ms = 10000\n";
        fs::write(web.path("recipe.toml"), recipe).expect("room");
        web
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same as text, for a command line.
    pub(crate) fn name(&self, name: &str) -> String {
        self.path(name).to_str().expect("a plain path").to_owned()
    }

    /// The crawl's WAT archives.
    pub(crate) fn archives(&self) -> Vec<String> {
        let names = fs::read_dir(self.path("crawl")).expect("written").map(|entry| entry.expect("an entry").path());
        let mut archives: Vec<_> = names.map(|path| path.to_str().expect("a plain path").to_owned()).collect();
        archives.retain(|name| name.ends_with(".wat.gz"));
        archives.sort();
        archives
    }
}

/// Every file below a folder, by its path in it.
pub(crate) fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(below) = folders.pop() {
        for entry in fs::read_dir(below).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path).expect("readable");
                found.insert(path.strip_prefix(folder).expect("below it").to_owned(), bytes);
            }
        }
    }
    found
}

/// `rows = kept + dropped + failed`, and at least one row.
pub(crate) fn adds_up(stage: &Value) {
    let sum = |name: &str| {
        stage[name].as_object().expect("reasons").values().map(|n| n.as_u64().expect("a count")).sum::<u64>()
    };
    let (rows, kept) = (stage["rows"].as_u64().expect("rows"), stage["kept"].as_u64().expect("kept"));
    assert_eq!(rows, kept + sum("dropped") + sum("failed"), "{stage}");
    assert!(rows > 0, "{stage}");
}
