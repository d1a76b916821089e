//! The crawl of the world, as Common Crawl writes it: WARC archives with the pages, and WAT archives with their links,
//! a gzip member per record. The shape of headers and JSON is that of files of CC-MAIN-2024-22.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use fs_err as fs;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};

use crate::page::html;
use crate::random::Random;
use crate::world::{ARCHIVES, Element, Page, World};

/// When every page was crawled: the crawl has to be the same whenever it is made.
const DATE: &str = "2021-03-04T05:06:07Z";

/// Writes `miniweb-0000N.warc.gz`, `miniweb-0000N.warc.wat.gz` and `truth.jsonl` into `folder`, and gives the paths of
/// the WAT archives.
pub fn write_crawl(world: &World, folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(folder)?;
    let mut wats = Vec::new();
    for archive in 0..ARCHIVES {
        let name = format!("miniweb-{archive:05}.warc.gz");
        let mut random = Random::of(world.settings().seed ^ 0xA2C, archive as u64);
        let (mut warc, mut wat) = (Archive::new(&name, &mut random), Archive::new(&name, &mut random));
        for page in world.pages.iter().filter(|page| page.archive == archive) {
            crawl_page(world, page, &name, &mut warc, &mut wat, &mut random);
        }
        publish(&folder.join(&name), &warc.bytes)?;
        let path = folder.join(format!("miniweb-{archive:05}.warc.wat.gz"));
        publish(&path, &wat.bytes)?;
        wats.push(path);
    }
    let truth: Vec<u8> = world
        .truth()
        .iter()
        .flat_map(|row| (serde_json::to_string(row).expect("plain data") + "\n").into_bytes())
        .collect();
    publish(&folder.join("truth.jsonl"), &truth)?;
    Ok(wats)
}

fn publish(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, bytes)?;
    fs::rename(temporary, path)
}

struct Archive {
    bytes: Vec<u8>,
}

/// Where a record lies in its archive, and what it is made of.
struct Written {
    offset: usize,
    deflated: usize,
    id: String,
}

impl Archive {
    fn new(name: &str, random: &mut Random) -> Self {
        let mut archive = Self { bytes: Vec::new() };
        let body = "software: miniweb\r\nformat: WARC File Format 1.0\r\n";
        let head = [("WARC-Type", "warcinfo".to_owned()), ("WARC-Filename", name.to_owned())];
        archive.push(&head, "application/warc-fields", body.as_bytes(), random);
        archive
    }

    fn push(&mut self, head: &[(&str, String)], content_type: &str, body: &[u8], random: &mut Random) -> Written {
        let id = record_id(random);
        let mut record = "WARC/1.0\r\n".to_owned();
        for (name, value) in head {
            record.push_str(&format!("{name}: {value}\r\n"));
        }
        record.push_str(&format!("WARC-Date: {DATE}\r\nWARC-Record-ID: {id}\r\n"));
        record.push_str(&format!("Content-Type: {content_type}\r\nContent-Length: {}\r\n\r\n", body.len()));
        let mut gzip = GzEncoder::new(Vec::new(), Compression::new(6));
        for part in [record.as_bytes(), body, b"\r\n\r\n"] {
            gzip.write_all(part).expect("a buffer in memory takes everything");
        }
        let member = gzip.finish().expect("a buffer in memory takes everything");
        let offset = self.bytes.len();
        self.bytes.extend_from_slice(&member);
        Written { offset, deflated: member.len(), id }
    }
}

/// A version 4 UUID out of the world's own randomness.
fn record_id(random: &mut Random) -> String {
    let (high, low) = (random.bits(), random.bits());
    let (high, low) = (high & !0xF000 | 0x4000, low & !(0b11 << 62) | 0b10 << 62);
    let hex = format!("{high:016x}{low:016x}");
    format!("<urn:uuid:{}-{}-{}-{}-{}>", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// The three records of a page in both archives.
fn crawl_page(world: &World, page: &Page, name: &str, warc: &mut Archive, wat: &mut Archive, random: &mut Random) {
    let url = world.page_url(page);
    let html = html(page);
    let digest = Sha1::digest(&html).iter().map(|byte| format!("{byte:02X}")).collect::<String>();
    let host = format!("{}.localhost", page.host);
    let request = format!("GET {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: CCBot/2.0\r\n\r\n", page.path);
    let headers =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\r\n", html.len());
    let fetch = "fetchTimeMs: 12\r\ncharset-detected: utf-8\r\n";
    let bodies = [
        ("request", "application/http; msgtype=request", request.clone()),
        ("response", "application/http; msgtype=response", headers + &html),
        ("metadata", "application/warc-fields", fetch.to_owned()),
    ];
    for (kind, content_type, body) in bodies {
        let head = [("WARC-Type", kind.to_owned()), ("WARC-Target-URI", url.clone())];
        let written = warc.push(&head, content_type, body.as_bytes(), random);
        let payload = match kind {
            "request" => json!({
                "Actual-Content-Type": content_type,
                "HTTP-Request-Metadata": {
                    "Request-Message": {"Method": "GET", "Path": page.path, "Version": "HTTP/1.1"},
                    "Headers": {"Host": host, "User-Agent": "CCBot/2.0"}
                }
            }),
            "response" => json!({
                "Actual-Content-Type": content_type,
                "HTTP-Response-Metadata": {
                    "Response-Message": {"Status": "200", "Version": "HTTP/1.1", "Reason": "OK"},
                    "Headers": {"Content-Type": "text/html; charset=utf-8", "Content-Length": html.len().to_string()},
                    "HTML-Metadata": {"Head": head_metadata(page), "Links": links(page)},
                    "Entity-Length": html.len().to_string(),
                    "Entity-Digest": format!("sha1:{digest}")
                }
            }),
            _ => json!({
                "Actual-Content-Type": content_type,
                "WARC-Metadata-Metadata": {"Metadata-Records": [{"Name": "fetchTimeMs", "Value": "12"}]}
            }),
        };
        let json = json!({
            "Container": {
                "Filename": name,
                "Compressed": true,
                "Offset": written.offset.to_string(),
                "Gzip-Metadata": {"Deflate-Length": written.deflated.to_string(), "Header-Length": "10", "Footer-Length": "8"}
            },
            "Envelope": {
                "Format": "WARC",
                "WARC-Header-Length": "300",
                "WARC-Header-Metadata": {
                    "WARC-Type": kind,
                    "WARC-Target-URI": url,
                    "WARC-Date": DATE,
                    "WARC-Record-ID": written.id,
                    "Content-Type": content_type,
                    "Content-Length": body.len().to_string()
                },
                "Payload-Metadata": payload
            }
        });
        let head =
            [("WARC-Type", "metadata".to_owned()), ("WARC-Target-URI", url.clone()), ("WARC-Refers-To", written.id)];
        wat.push(&head, "application/json", json.to_string().as_bytes(), random);
    }
}

fn head_metadata(page: &Page) -> Value {
    let mut head = json!({"Title": page.title, "Metas": [{"charset": "utf-8"}]});
    if let Some(base) = &page.base {
        head["Base"] = base.as_str().into();
    }
    if let Some(license) = page.head_license {
        head["Link"] = json!([{"path": "LINK@/href", "url": license, "rel": "license"}]);
    }
    head
}

fn links(page: &Page) -> Vec<Value> {
    // The extractor names the URL of a style `href`, and nothing else.
    let mut links = vec![json!({"path": "STYLE/#text", "href": "/back.png"})];
    for element in &page.elements {
        match element {
            Element::Paragraph(_) => {}
            Element::Anchor { href, text, rel } => {
                let mut link = json!({"path": "A@/href", "url": href, "text": text});
                if let Some(rel) = rel {
                    link["rel"] = (*rel).into();
                }
                links.push(link);
            }
            Element::Image { src, alt, title } => {
                // The extractor cuts data URLs at their header.
                let src = if src.starts_with("data:") { src.split(',').next().unwrap_or_default() } else { src };
                let mut link = json!({"path": "IMG@/src", "url": src});
                for (name, value) in [("alt", alt), ("title", title)] {
                    if let Some(value) = value {
                        link[name] = value.as_str().into();
                    }
                }
                links.push(link);
            }
        }
    }
    links.push(json!({"path": "FORM@/action", "url": "/search"}));
    links
}
