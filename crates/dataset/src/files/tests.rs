use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use proptest::prelude::*;

use super::*;
use crate::{Counts, Draft, Marker, ShardId, list_shards};

/// Room for all that tests read: less than one of them reads.
const CACHE_BYTES: u64 = 1 << 20;

/// A store in memory.
#[derive(Default)]
struct Memory {
    objects: Mutex<BTreeMap<String, (Vec<u8>, u64)>>,
    /// Parts that were asked for.
    asked: Mutex<Vec<(String, Range<u64>)>>,
}

static MEMORY: LazyLock<Memory> = LazyLock::new(Memory::default);

fn name(path: &Path) -> String {
    path.to_str().expect("text").to_owned()
}

/// One of its buckets is for others.
fn refused(path: &Path) -> io::Result<()> {
    if path.starts_with("s3://refused") { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(()) }
}

impl Memory {
    fn put(&self, path: &str, content: &[u8]) -> Object {
        let mut objects = self.objects.lock().expect("no panic");
        let version = objects.get(path).map_or(1, |(_, version)| version + 1);
        objects.insert(path.into(), (content.into(), version));
        Object { bytes: content.len() as u64, version: version.to_string() }
    }

    fn asked_of(&self, path: &str) -> Vec<Range<u64>> {
        let asked = self.asked.lock().expect("no panic");
        asked.iter().filter(|(name, _)| name == path).map(|(_, range)| range.clone()).collect()
    }
}

impl Store for &'static Memory {
    fn head(&self, path: &Path) -> io::Result<Object> {
        refused(path)?;
        let objects = self.objects.lock().expect("no panic");
        let (content, version) = objects.get(&name(path)).ok_or(io::ErrorKind::NotFound)?;
        Ok(Object { bytes: content.len() as u64, version: version.to_string() })
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let objects = self.objects.lock().expect("no panic");
        Ok(objects.get(&name(path)).ok_or(io::ErrorKind::NotFound)?.0.clone())
    }

    fn read_range(&self, path: &Path, object: &Object, range: Range<u64>) -> io::Result<Vec<u8>> {
        self.asked.lock().expect("no panic").push((name(path), range.clone()));
        if self.head(path)? != *object {
            return Err(io::Error::other("changed"));
        }
        Ok(self.read(path)?[range.start as usize..range.end as usize].to_vec())
    }

    fn write(&self, path: &Path, from: &std::fs::File, bytes: u64, condition: Condition<'_>) -> io::Result<Object> {
        let mut content = vec![0; bytes as usize];
        from.read_exact_at(&mut content, 0)?;
        if name(path).contains("raced") {
            self.put(&name(path), if name(path).contains("same") { &content } else { b"of somebody else" });
        }
        let there = self.head(path).ok().map(|object| object.version);
        let holds = match condition {
            Condition::Always => true,
            Condition::Absent => there.is_none(),
            Condition::Version(version) => there.as_deref() == Some(version),
        };
        if holds { Ok(self.put(&name(path), &content)) } else { Err(io::ErrorKind::AlreadyExists.into()) }
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        refused(folder)?;
        let prefix = format!("{}/", name(folder));
        let objects = self.objects.lock().expect("no panic");
        let below = objects.keys().filter_map(|name| name.strip_prefix(&prefix));
        let mut found: Vec<_> = below
            .map(|rest| {
                let (first, is_dir) = rest.split_once('/').map_or((rest, false), |(first, _)| (first, true));
                Entry { path: folder.join(first), is_dir }
            })
            .collect();
        found.dedup();
        Ok(found)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.objects.lock().expect("no panic").remove(&name(path));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let content = self.read(from)?;
        self.put(&name(to), &content);
        self.remove(from)
    }
}

/// The store, for one test at a time: they share a cache that is too small for all.
fn ready() -> (MutexGuard<'static, ()>, &'static Memory) {
    static TURN: Mutex<()> = Mutex::new(());
    static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a temporary folder"));
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    install(Box::new(&*MEMORY), FOLDER.path(), CACHE_BYTES);
    (turn, &MEMORY)
}

fn is_there(path: &Path) -> bool {
    exists(path).expect("a store")
}

fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at / 1000 + at) as u8).collect()
}

#[test]
fn an_object_appears_whole_or_not_at_all() {
    let _turn = ready();
    let path = Path::new("s3://lake/whole/00007.bin");
    let mut draft = Draft::create(path).expect("room");
    draft.write_all(&content(300_000)).expect("room");
    assert!(!is_there(path) && !is_dir("s3://lake/whole").expect("a store"));
    drop(draft);
    assert!(!is_there(path));
    let mut draft = Draft::create(path).expect("room");
    draft.write_all(&content(300_000)).expect("room");
    let entry = draft.publish().expect("a store");
    assert_eq!((entry.name.as_str(), entry.bytes), ("00007.bin", 300_000));
    assert_eq!(read(path).expect("published"), content(300_000));
    assert!(is_file(path).expect("a store") && is_dir("s3://lake/whole").expect("a store"));
    assert_eq!(list_shards(Path::new("s3://lake/whole"), "bin").expect("a folder"), [ShardId(7)]);
    assert_eq!(list("s3://lake/none").expect_err("nothing").kind(), io::ErrorKind::NotFound);
    remove_dir_all("s3://lake/whole").expect("a store");
    assert!(!is_there(path));
}

#[test]
fn what_a_store_does_not_tell_is_not_missing() {
    let _turn = ready();
    let path = Path::new("s3://refused/run/00007.tar");
    for asked in [exists(path), is_file(path), is_dir(path), has_length(path, 7)] {
        assert_eq!(asked.expect_err("refused").kind(), io::ErrorKind::PermissionDenied);
    }
}

#[test]
fn what_stands_below_a_file_is_missing() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let below = file.path().join("report.json");
    for asked in [exists(&below), is_file(&below), is_dir(&below), is_dir(file.path())] {
        assert!(!asked.expect("known"));
    }
}

#[test]
fn what_was_written_is_not_fetched() {
    let (_turn, store) = ready();
    let path = Path::new("s3://lake/written.bin");
    crate::publish(path, &content(50_000)).expect("a store");
    let mut text = Vec::new();
    File::open(path).expect("there").read_to_end(&mut text).expect("a store");
    assert_eq!(text, content(50_000));
    assert_eq!(store.asked_of("s3://lake/written.bin"), []);
}

/// Far-apart reads fetch little, reads from front to back fetch more and more at once, and no part is fetched twice while
/// there is room.
#[test]
fn parts_are_fetched_as_they_are_read() {
    let (_turn, store) = ready();
    let name = "s3://lake/parts.bin";
    store.put(name, &content(900_000));
    let file = File::open(name).expect("there");
    let mut part = [0; 10];
    file.read_exact_at(&mut part, 600_000).expect("a store");
    assert_eq!(part, content(900_000)[600_000..600_010]);
    assert_eq!(store.asked_of(name).last(), Some(&(524_288..786_432)));
    file.read_exact_at(&mut part, 700_000).expect("a store");
    assert_eq!(store.asked_of(name).len(), 1);
    let end = file.read_exact_at(&mut part, 899_995).expect_err("beyond the end");
    assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);

    let name = "s3://lake/long.bin";
    let long = content(20 << 20);
    store.put(name, &long);
    let mut text = Vec::new();
    File::open(name).expect("there").read_to_end(&mut text).expect("a store");
    assert!(text == long);
    let asked = store.asked_of(name);
    assert!(asked.len() < 10, "{asked:?}");
    assert!(asked.windows(2).all(|pair| pair[0].end == pair[1].start), "{asked:?}");
    let held: u64 = installed().expect("installed").cache.held();
    assert!(held <= CACHE_BYTES.max(8 << 20), "{held} bytes are kept"); // one part is kept, however long
}

#[test]
fn a_mapped_file_is_never_emptied() {
    let (_turn, store) = ready();
    store.put("s3://lake/mapped.bin", &content(2 << 20));
    let mapped = File::open("s3://lake/mapped.bin").expect("there").into_local().expect("a store");
    store.put("s3://lake/other.bin", &content(4 << 20));
    let mut text = Vec::new();
    File::open("s3://lake/other.bin").expect("there").read_to_end(&mut text).expect("a store");
    let mut whole = vec![0; 2 << 20];
    mapped.read_exact_at(&mut whole, 0).expect("all of it");
    assert!(whole == content(2 << 20));
}

#[test]
fn an_object_that_changes_while_it_is_read_is_an_error() {
    let (_turn, store) = ready();
    store.put("s3://lake/changed.bin", &content(900_000));
    let file = File::open("s3://lake/changed.bin").expect("there");
    let mut part = [0; 10];
    file.read_exact_at(&mut part, 0).expect("a store");
    store.put("s3://lake/changed.bin", &content(900_000));
    let error = file.read_exact_at(&mut part, 800_000).expect_err("of another version").to_string();
    assert!(error.contains("s3://lake/changed.bin"), "{error}");
    let again = File::open("s3://lake/changed.bin").expect("there");
    again.read_exact_at(&mut part, 800_000).expect("the new one");
}

/// Two tasks that do the same shard write the same marker: it is whichever came first. Another one is never overwritten
/// unseen.
#[test]
fn a_marker_is_published_once() {
    let _turn = ready();
    let finish = |folder: &str| {
        let path = Marker::of_shard(Path::new(folder), ShardId(3));
        Marker::finish(&path, &serde_json::json!({}), Vec::new(), Counts::default(), Vec::new())
    };
    finish("s3://lake/raced-same").expect("the same is there already");
    let error = finish("s3://lake/raced-other").expect_err("another one is there").to_string();
    assert!(error.contains("s3://lake/raced-other/00003.json") && error.contains("run again"), "{error}");
    finish("s3://lake/markers").expect("nothing is there");
    finish("s3://lake/markers").expect("what is there was seen");
    let there = Marker::read(Path::new("s3://lake/markers/00003.json")).expect("sound");
    assert!(there.is_some());
}

proptest! {
    /// Whatever is read in whatever order, with too little room, is what was written.
    #[test]
    fn reads_are_slices(places in prop::collection::vec((0usize..3_000_000, 0usize..400_000), 1..20)) {
        let _turn = ready();
        static MADE: LazyLock<Vec<u8>> = LazyLock::new(|| {
            let made = content(3 << 20);
            MEMORY.put("s3://lake/random.bin", &made);
            made
        });
        let whole = &*MADE;
        let file = File::open("s3://lake/random.bin").expect("there");
        for (start, bytes) in places {
            let end = (start + bytes).min(whole.len());
            let mut out = vec![0; end - start];
            file.read_exact_at(&mut out, start as u64).expect("within the object");
            prop_assert!(out == whole[start..end]);
        }
    }
}
