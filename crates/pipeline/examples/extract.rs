//! What cc2dataset's `process_wat` does: the rows of an archive, in memory. For `benchsuite/collect.py`.
//!
//! usage: extract ARCHIVE laion400m|cc2dataset|inflate [DOCUMENTS]; `inflate` reads the records and does nothing with them

#![allow(clippy::print_stdout)]

use std::path::Path;

use dataset::spill::SpillWriter;
use dataset::warc::{WarcEntry, WarcReader};
use pipeline::collect::{Config, extract};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [archive, rules, rest @ ..] = arguments.as_slice() else { return Err("usage: extract ARCHIVE RULES".into()) };
    let mut reader = WarcReader::open(Path::new(archive))?;
    if rules == "inflate" {
        let (mut records, mut bytes) = (0, 0);
        while let Some(entry) = reader.next_entry()? {
            records += 1;
            bytes += if let WarcEntry::Record(record) = entry { record.body.len() } else { 0 };
        }
        println!("{records} records, {bytes} bytes");
        return Ok(());
    }
    let text = |name: &String| serde_json::Value::from(name.as_str());
    let mut config = Config { rules: serde_json::from_value(text(rules))?, ..Config::laion400m() };
    if let [documents] = rest {
        config.documents = serde_json::from_value(text(documents))?;
    }
    let mut rows = SpillWriter::default();
    let counts = extract(&config, reader, &mut |uid, pair| rows.push(uid, pair))?;
    println!("{} rows of {} candidates, {} bytes", counts.kept, counts.rows, rows.bytes());
    Ok(())
}
