//! Prints the name of every record in the order it is read. usage: list_records FOLDER SPLIT [SEED]

#![allow(clippy::print_stdout, reason = "that is what it does")]

use std::path::Path;

use dataset::load::{Dataset, ReadOptions, Shuffle};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, split, seed @ ..] = arguments.as_slice() else { return Err("FOLDER SPLIT [SEED]".into()) };
    let shuffle = seed.first().map(|seed| seed.parse().map(Shuffle::new)).transpose()?;
    let options = ReadOptions { split: split.clone(), shuffle, ..ReadOptions::default() };
    for record in Dataset::open(Path::new(folder))?.read(&options)? {
        println!("{}", record?.id());
    }
    Ok(())
}
