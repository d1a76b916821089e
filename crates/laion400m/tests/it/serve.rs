//! `serve` as its users and the system call it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Web, call, program};

/// A service that does not outlive its test.
struct Serving {
    child: Child,
    address: String,
    said: BufReader<ChildStderr>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Serving {
    fn new(arguments: &[&str]) -> Self {
        let mut command = program();
        let command = command.args(["serve", "--port", "0"]).args(arguments).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let mut said = BufReader::new(child.stderr.take().expect("piped"));
        let mut line = String::new();
        said.read_line(&mut line).expect("text");
        let address = line.split_once("http://").and_then(|(_, rest)| rest.split_once('/'));
        let address = address.unwrap_or_else(|| panic!("no address: {line}")).0.to_owned();
        Self { child, address, said }
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let (host, length) = (&self.address, body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
        (head[9..12].parse().expect("a status"), serde_json::from_str(body).expect("JSON"))
    }

    /// What it has said when it has ended, and how it ended.
    fn end(mut self, signal: &str) -> (String, Option<i32>) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().expect("a command").success());
        let mut said = String::new();
        self.said.read_to_string(&mut said).expect("text");
        (said, self.child.wait().expect("a child").code())
    }
}

#[test]
fn it_serves_runs_logs_requests_fetches_pictures_and_ends_as_it_is_told() {
    let web = Web::new(120);
    let run = web.name("run");
    assert_eq!(call(&["build", &web.name("recipe.toml"), "-o", &run]).status, Some(1));
    fs_err::create_dir(web.path("other")).expect("room");
    for part in ["index", "packages"] {
        assert!(
            Command::new("cp")
                .args(["-r", &format!("{run}/{part}"), &web.name("other")])
                .status()
                .expect("a command")
                .success()
        );
    }

    let serving = Serving::new(&[&run, &web.name("other"), "--log-format", "json"]);
    let (status, found) = serving.ask("GET", "/api/v1/search?text=a+secret+word&safe=false&count=1", "");
    assert_eq!(status, 200);
    let url = found["results"][0]["url"].as_str().expect("an address").to_owned();
    assert_eq!(serving.ask("GET", "/indices-list", "").1, json!(["run", "other"]));
    let knn =
        |url: &str| json!({"image_url": url, "modality": "image", "num_images": 1, "indice_name": "other"}).to_string();
    let (status, refused) = serving.ask("POST", "/knn-service", &knn(&url));
    assert!(status == 400 && refused["message"].as_str().is_some_and(|cause| cause.contains("--allow-image-urls")));
    let (said, status) = serving.end("-TERM");
    assert_eq!(status, Some(0), "{said}");
    let lines: Vec<Value> =
        said.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert_eq!(
        (&lines[0]["method"], &lines[0]["path"], &lines[0]["status"]),
        (&json!("GET"), &json!("/api/v1/search"), &json!(200))
    );
    assert!(lines[0]["bytes"].as_u64() > Some(100) && lines[0]["milliseconds"].is_number(), "{said}");
    assert_eq!(lines[2]["status"], 400);
    assert!(!said.contains("secret") && !said.contains(&url), "what people look for is their own: {said}");

    // The miniature web is on this machine, where nobody is asked unless that is allowed, too.
    let serving = Serving::new(&[&run, "--allow-image-urls"]);
    let (status, refused) = serving.ask("POST", "/knn-service", &knn(&url).replace("\"other\"", "null"));
    assert!(
        status == 400 && refused["message"].as_str().is_some_and(|cause| cause.contains("private_address")),
        "{refused}"
    );
    let (said, status) = serving.end("-INT");
    assert_eq!((said.as_str(), status), ("", Some(0)), "a request is no line unless that is wanted");
    let serving = Serving::new(&[&run, "--allow-image-urls", "--allow-private"]);
    let (status, found) = serving.ask("POST", "/knn-service", &knn(&url).replace("\"other\"", "null"));
    assert_eq!((status, &found[0]["url"]), (200, &json!(url)), "{found}");
    let (status, _) = serving.ask("POST", "/knn-service", &knn("file:///etc/passwd").replace("\"other\"", "null"));
    assert_eq!(status, 400);
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (arguments, cause) in [
        (&["serve"][..], "RUN"),
        (&["serve", "run", "--allow-origin", "example.com"], "https://example.com"),
        (&["serve", "run", "--allow-origin", "https://example.com/page"], "https://example.com"),
        (&["serve", "run", "--allow-private"], "--allow-image-urls"),
        (&["serve", "run", "--log-format", "xml"], "json"),
    ] {
        let said = call(arguments);
        assert!(said.status == Some(2) && said.stderr.contains(cause), "{arguments:?}: {said:?}");
    }
}
