//! The world on a loopback socket, its faults included: written by hand over TCP, because no HTTP library sends
//! half an answer.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::page::html;
use crate::world::{Answer, World};

/// Longest request that is read.
const REQUEST_BYTES_MAX: usize = 16 << 10;
/// How long a request that is never answered, or a connection nobody uses, stays open.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server under way; it ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
    runtime: Option<Runtime>,
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests it has read.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Serves the world in the background.
pub fn serve(world: Arc<World>, listener: TcpListener) -> io::Result<Server> {
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let requests = Arc::new(AtomicU64::new(0));
    let counter = requests.clone();
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            // A connection that fails while it is accepted is the other side's trouble.
            let Ok((stream, _)) = listener.accept().await else { continue };
            let (world, counter) = (world.clone(), counter.clone());
            tokio::spawn(async move {
                let _ = tokio::time::timeout(PATIENCE, converse(&world, stream, &counter)).await;
            });
        }
        #[allow(unreachable_code)]
        Ok::<(), io::Error>(())
    });
    Ok(Server { address, requests, runtime: Some(runtime) })
}

/// What one connection says, request after request.
async fn converse(world: &Arc<World>, mut stream: TcpStream, requests: &AtomicU64) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if buffer.len() > REQUEST_BYTES_MAX || stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let Some(request) = Request::parse(&buffer[..end]) else {
            return stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .await;
        };
        buffer.drain(..end);
        requests.fetch_add(1, Ordering::Relaxed);
        let (asked, head_only) = (world.clone(), request.head_only);
        let reply = tokio::task::spawn_blocking(move || reply(&asked, &request)).await;
        match reply.map_err(io::Error::other)? {
            Reply::Whole(head, body) => {
                stream.write_all(head.as_bytes()).await?;
                if !head_only {
                    stream.write_all(&body).await?;
                }
            }
            Reply::Half(head, body) => {
                stream.write_all(head.as_bytes()).await?;
                return stream.write_all(&body[..body.len() / 2]).await;
            }
            Reply::Close => return Ok(()),
            Reply::Never => {
                // Until the other side gives up.
                while stream.read_buf(&mut buffer).await? > 0 {
                    buffer.clear();
                }
                return Ok(());
            }
        }
    }
}

struct Request {
    host: String,
    path: String,
    target: String,
    head_only: bool,
}

impl Request {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut lines = text.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target) = (words.next()?, words.next()?.to_owned());
        if !matches!(method, "GET" | "HEAD") || !target.starts_with('/') {
            return None;
        }
        let host = lines.find_map(|line| line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("host")))?.1;
        let host = host.trim().split(':').next().unwrap_or_default().to_ascii_lowercase();
        let path = target.split('?').next().unwrap_or_default().to_owned();
        Some(Self { host, path, target, head_only: method == "HEAD" })
    }
}

enum Reply {
    Whole(String, Vec<u8>),
    /// The head promises all of the body, and half of it is sent.
    Half(String, Vec<u8>),
    Close,
    Never,
}

fn reply(world: &World, request: &Request) -> Reply {
    let whole =
        |status: &str, kind: &str, more: &str, body: Vec<u8>| Reply::Whole(head(status, kind, more, body.len()), body);
    let page = || {
        world
            .pages
            .iter()
            .find(|page| request.host.strip_suffix(".localhost") == Some(page.host) && page.path == request.target)
    };
    let Some(answer) = world.answers.get(&(request.host.clone(), request.path.clone())) else {
        return match page() {
            Some(page) => whole("200 OK", "text/html; charset=utf-8", "", html(page).into_bytes()),
            None => whole("404 Not Found", "text/plain", "", b"nothing here\n".to_vec()),
        };
    };
    match answer {
        Answer::Picture(picture) => whole("200 OK", picture.format.content_type(), "", picture.encode()),
        Answer::Tagged(picture, tag) => {
            whole("200 OK", picture.format.content_type(), &format!("X-Robots-Tag: {tag}\r\n"), picture.encode())
        }
        Answer::Redirect(status, to) => {
            whole(&format!("{status} Moved"), "text/plain", &format!("Location: {to}\r\n"), Vec::new())
        }
        Answer::Status(status) => whole(&format!("{status} No"), "text/plain", "", b"no\n".to_vec()),
        Answer::Html(kind) => whole("200 OK", kind, "", b"<!doctype html><title>Please log in</title>\n".repeat(200)),
        Answer::HalfFile(picture) => {
            let mut file = picture.encode();
            file.truncate(file.len() / 2);
            whole("200 OK", picture.format.content_type(), "", file)
        }
        Answer::HalfBody(picture) => {
            let file = picture.encode();
            Reply::Half(head("200 OK", picture.format.content_type(), "", file.len()), file)
        }
        Answer::Close => Reply::Close,
        Answer::Hang => Reply::Never,
    }
}

fn head(status: &str, content_type: &str, more: &str, bytes: usize) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {bytes}\r\n{more}\r\n")
}
