//! Measures what hosts that do not answer cost those that do: `many_hosts [BAD_PERCENT [ROWS [CONNECTIONS [SIDE]]]]`.
//!
//! A second process serves 1,000 hosts on this machine, each answer after 50 to 150 ms. Of them BAD_PERCENT never answer
//! and as many send a byte a second. Compare a run with 0 to one with 5. Pictures are noise of SIDE x SIDE pixels (64): with
//! large ones it tells the memory that bodies take.
#![allow(clippy::print_stdout)] // it is here to print

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Cursor};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, UNIX_EPOCH};

use dataset::schema::{ImageRow, Pair, uid};
use dataset::table::{read_table, write_table};
use dataset::{Error, Result, Silent};
use pipeline::download;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// As in the program.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HOSTS: usize = 1000;
/// As `collect` writes them.
const SHARD_ROWS: usize = 10_000;

fn main() -> Result<()> {
    let mut numbers = std::env::args().skip(1).map(|argument| argument.parse::<usize>());
    let mut number = |default| numbers.next().and_then(std::result::Result::ok).unwrap_or(default);
    let (bad, rows, connections, side) = (number(5), number(200_000), number(1000), number(64));
    if std::env::args().nth(5).is_some() {
        return tokio::runtime::Runtime::new()?.block_on(serve(bad, side as u32));
    }
    let program = std::env::current_exe()?;
    let mut server = Command::new(program)
        .args([&bad.to_string(), "0", "0", &side.to_string(), "serve"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(server.stdout.take().ok_or_else(|| Error::Invalid("no output".into()))?).lines();
    let mut line = || lines.next().ok_or_else(|| Error::Invalid("the server is gone".into()))?.map_err(Error::from);
    let port = line()?;

    let folder = tempfile::tempdir()?;
    let (pairs, images) = (folder.path().join("pairs"), folder.path().join("images"));
    fs_err::create_dir(&pairs)?;
    // Hosts in no order, the same in every run.
    let host = |row: usize| (row as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_mul(row as u64 | 1) >> 32;
    let url = |row: usize| format!("http://h{:03}.localhost:{port}/{row}.jpg", host(row) % HOSTS as u64);
    let shards = || (0..rows).step_by(SHARD_ROWS).zip(0..);
    for (start, number) in shards() {
        let shard = start..rows.min(start + SHARD_ROWS);
        write_table(&pairs.join(format!("{number:05}.parquet")), shard.map(|row| pair(&url(row))))?;
    }
    let config = download::Config {
        allow_private: true,
        image_bytes_min: 0,
        image_size: 32,
        concurrency: connections,
        ..download::Config::laion400m()
    };
    let started = Instant::now();
    download::run(&config, &pairs, &images, &Silent)?;
    let (seconds, ended) = (started.elapsed().as_secs_f64(), UNIX_EPOCH.elapsed().unwrap_or_default());
    let last = last_answer(&port)?;
    server.kill()?;

    let mut ends = BTreeMap::<String, usize>::new();
    for (_, number) in shards() {
        for row in read_table::<ImageRow>(&images.join(format!("{number:05}.parquet")))? {
            *ends.entry(row.error_code).or_default() += 1;
        }
    }
    let kept = ends.get("kept").copied().unwrap_or_default();
    let after = ended.saturating_sub(last).as_secs_f64();
    println!("{bad} % never answer, {bad} % drip; {rows} rows, {connections} connections");
    println!("{seconds:.1} s; the last good answer {after:.1} s before the end");
    println!(
        "{:.0} rows a second, {:.0} good ones until the last",
        rows as f64 / seconds,
        kept as f64 / (seconds - after)
    );
    println!("{}; {ends:?}", peak());
    Ok(())
}

fn last_answer(port: &str) -> Result<Duration> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(format!("127.0.0.1:{port}"))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: last.localhost\r\n\r\n")?;
    let mut text = [0; 20];
    stream.read_exact(&mut text)?;
    let millis = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
    Ok(Duration::from_millis(millis.unwrap_or_default()))
}

/// Most memory that this process has had.
fn peak() -> String {
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default().to_owned()
}

fn pair(url: &str) -> Pair {
    Pair { uid: uid("a cat", url), url: url.into(), caption: "a cat".into(), ..Pair::default() }
}

async fn serve(bad: usize, side: u32) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    let mut picture = Vec::new();
    let noise = |x: u32, y: u32| (x.wrapping_mul(0x9E37_79B9) ^ y.wrapping_mul(0x85EB_CA6B)).wrapping_mul(0xC2B2_AE35);
    let pixels = image::RgbImage::from_fn(side, side, |x, y| {
        image::Rgb(noise(x, y).to_be_bytes()[..3].try_into().unwrap_or_default())
    });
    pixels
        .write_to(&mut Cursor::new(&mut picture), image::ImageFormat::Jpeg)
        .map_err(|e| Error::Invalid(e.to_string()))?;
    let picture: &'static [u8] = picture.leak();
    let last: &'static std::sync::atomic::AtomicU64 = Box::leak(Box::default());
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(converse(stream, bad, picture, last));
    }
}

/// Answers one request after the other.
async fn converse(
    stream: TcpStream,
    bad: usize,
    picture: &[u8],
    last: &std::sync::atomic::AtomicU64,
) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = tokio::io::BufReader::new(reader).lines();
    loop {
        let (mut first, mut host) = (None, String::new());
        while let Some(line) = lines.next_line().await?.filter(|line| !line.is_empty()) {
            if let Some(name) = line.to_ascii_lowercase().strip_prefix("host: ") {
                host = name.split('.').next().unwrap_or_default().to_owned();
            }
            first.get_or_insert(line);
        }
        let Some(first) = first else { return Ok(()) };
        if host == "last" {
            let text = format!("{:20}", last.load(std::sync::atomic::Ordering::Relaxed));
            return writer.write_all(text.as_bytes()).await;
        }
        let number: usize = host.trim_start_matches('h').parse().unwrap_or_default();
        match number % 100 {
            kind if kind < bad => return lines.get_mut().read_to_end(&mut Vec::new()).await.map(drop),
            kind if kind < 2 * bad => {
                writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n").await?;
                loop {
                    writer.write_all(b"x").await?;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(50 + number as u64 % 101)).await;
        if first.contains("/robots.txt") {
            writer.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await?;
            continue;
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", picture.len());
        writer.write_all(&[head.as_bytes(), picture].concat()).await?;
        let now = UNIX_EPOCH.elapsed().unwrap_or_default().as_millis() as u64;
        last.fetch_max(now, std::sync::atomic::Ordering::Relaxed);
    }
}
