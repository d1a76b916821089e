//! Files of LAION-400M as other tools left them.

use std::path::{Path, PathBuf};

use crate::support::{adds_up, call, files};

fn golden(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dataset/tests/golden/tfds").join(name);
    path.to_str().expect("a plain path").to_owned()
}

fn folder() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let name = folder.path().join("data").to_str().expect("a plain path").to_owned();
    (folder, name)
}

#[test]
fn both_layouts_become_packages_that_verify_and_are_left_alone_the_second_time() {
    for (input, config) in [("inputs/images-100", "images"), ("inputs/embeddings-100", "embeddings")] {
        let (_folder, data) = folder();
        let arguments = ["pack", &golden(input), "-o", &data, "--json"];
        let said = call(&arguments);
        assert_eq!(said.status, Some(0), "{said:?}");
        let entry = said.json();
        adds_up(&entry);
        assert_eq!((&entry["stage"], &entry["kept"]), (&"pack".into(), &100.into()));
        let package = format!("{data}/laion400m/{config}/1.0.0");
        assert_eq!(call(&["verify", &package]).status, Some(0));
        let before = files(Path::new(&data));
        assert!(before.contains_key(&PathBuf::from("laion400m/.config/metadata.json")));
        assert_eq!(call(&arguments).json(), entry);
        assert!(files(Path::new(&data)) == before);
    }
}

#[test]
fn a_package_is_kept_in_the_file_formats_that_were_asked_for() {
    let (_folder, data) = folder();
    let formats = ["pack", &golden("inputs/images-100"), "-o", &data, "--file-format"];
    call(&[&formats[..], &["parquet,parquet"]].concat()).could_not_run(&["--file-format", "parquet twice"]);
    let said = call(&[&formats[..], &["array_record,parquet"]].concat());
    assert_eq!(said.status, Some(0), "{said:?}");
    let package = format!("{data}/laion400m/images/1.0.0");
    for format in ["array_record", "parquet"] {
        assert!(Path::new(&package).join(format!("laion400m-train.{format}-00000-of-00001")).exists());
    }
    assert_eq!(call(&["verify", &package]).status, Some(0));
    let said = call(&["stats", &package, "--json"]).json();
    assert_eq!(said["examples"], 100);
    let total = |counts: &serde_json::Value, field: &str| -> u64 {
        counts.as_array().expect("a list").iter().map(|each| each[field].as_u64().expect("a count")).sum()
    };
    assert_eq!(total(&said["hosts"], "count"), 100);
    let unknown = said["similarity"]["unknown"].as_u64().expect("a count");
    assert_eq!(total(&said["similarity"]["histogram"], "count") + unknown, 100);
    let text = call(&["stats", &package]).stdout;
    for part in ["100 examples in 1 shards", "UNTAGGED", "from 0.30", "both sides ≥ 256", "example.com"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn what_a_package_holds_is_drawn_on_a_page() {
    let (folder, data) = folder();
    assert_eq!(call(&["pack", &golden("inputs/images-100"), "-o", &data]).status, Some(0));
    let package = format!("{data}/laion400m/images/1.0.0");
    let path = folder.path().join("pages/images.html");
    let html = path.to_str().expect("a plain path");
    let said = call(&["stats", &package, "--html", html, "--json"]);
    assert_eq!((said.status, &said.json()["examples"]), (Some(0), &100.into()), "{said:?}");
    assert!(said.stderr.contains(html), "{said:?}");
    let page = fs_err::read_to_string(&path).expect("written");
    for part in ["<h1>images/1.0.0</h1>", "<dd>100</dd>", "UNTAGGED", "0.30 to 0.32", "example.com"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("<script"), "{page}");
}

#[test]
fn examples_can_stay_in_their_order() {
    let (folder, data) = folder();
    let said = call(&["pack", &golden("inputs/embeddings-100"), "-o", &data, "--no-shuffle", "--json"]);
    assert_eq!((said.status, &said.json()["kept"]), (Some(0), &100.into()), "{said:?}");
    let package = format!("{data}/laion400m/embeddings/1.0.0");
    let info = fs_err::read_to_string(format!("{package}/dataset_info.json")).expect("written");
    assert!(info.contains("\"disableShuffling\": true"), "{info}");
    assert_eq!(call(&["verify", &package]).status, Some(0));
    // Another order is another package, and a run has one order only.
    call(&["pack", &golden("inputs/embeddings-100"), "-o", &data]).could_not_run(&["settings"]);
    fs_err::create_dir(folder.path().join("curated")).expect("room");
    let run = folder.path().to_str().expect("a plain path");
    call(&["pack", run, "--no-shuffle"]).could_not_run(&["--no-shuffle", "is a run"]);
}

#[test]
fn a_tar_that_cannot_be_decompressed_is_named() {
    let (folder, data) = folder();
    let input = folder.path().join("input");
    fs_err::create_dir(&input).expect("room");
    fs_err::copy(golden("inputs/images-3/00000.parquet"), input.join("00000.parquet")).expect("room");
    fs_err::write(input.join("00000.tar"), b"\xFD7zXZ\0 and so on").expect("room");
    let said = call(&["pack", input.to_str().expect("a plain path"), "-o", &data]);
    said.could_not_run(&["00000.tar", "xz", "gzip"]);
}

#[test]
fn a_package_of_another_program_is_never_written_over() {
    let (_folder, data) = folder();
    let theirs = Path::new(&data).join("laion400m/images/1.0.0");
    fs_err::create_dir_all(&theirs).expect("room");
    fs_err::copy(golden("images-100/dataset_info.json"), theirs.join("dataset_info.json")).expect("room");
    let before = files(Path::new(&data));
    let said = call(&["pack", &golden("inputs/images-3"), "-o", &data]);
    said.could_not_run(&["laion400m/images/1.0.0", "another output"]);
    assert!(files(Path::new(&data)) == before);
    // Killed after the package was whole and before it was marked as such: this one is ours, and is made again.
    fs_err::write(Path::new(&data).join(".laion400m-images.begun"), "").expect("room");
    let said = call(&["pack", &golden("inputs/images-3"), "-o", &data]);
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(!Path::new(&data).join(".laion400m-images.begun").exists());
}

#[test]
fn the_join_of_tfds_can_be_shown() {
    let (_folder, data) = folder();
    let said = call(&["pack", &golden("inputs/images-100"), "-o", &data, "--compat", "tfds-positional", "--json"]);
    assert_eq!((said.status, &said.json()["kept"]), (Some(0), &100.into()), "{said:?}");
    // Another join is another package: it is not taken for the one that is there.
    call(&["pack", &golden("inputs/images-100"), "-o", &data]).could_not_run(&["laion400m-images.json", "settings"]);
}

#[test]
fn a_folder_that_holds_nothing_to_pack_is_named_with_what_it_might_hold() {
    let (folder, data) = folder();
    let empty = folder.path().to_str().expect("a plain path");
    call(&["pack", empty, "-o", &data]).could_not_run(&[empty, "NNNNN.tar", "metadata_N.parquet"]);
    call(&["pack", empty]).could_not_run(&[empty, "-o"]);
    call(&["pack", "/no/such/folder", "-o", &data]).could_not_run(&["/no/such/folder"]);
}

/// The files of a package, by their names in the folder of all packages.
fn names(folder: &str) -> Vec<String> {
    let text = |path: &PathBuf| path.to_str().expect("a plain path").to_owned();
    files(Path::new(folder)).keys().map(text).collect()
}

#[test]
fn pictures_and_embeddings_become_every_form_they_can_be_and_are_left_alone_the_second_time() {
    let inputs = [
        ("inputs/images-100", "tfds,webdataset,parquet,hf", "webdataset/00001.tar"),
        ("inputs/embeddings-100", "tfds,npy,parquet,hf", "embeddings/text_emb/text_emb_1.npy"),
    ];
    for (input, formats, one) in inputs {
        let (_folder, data) = folder();
        let arguments = ["pack", &golden(input), "-o", &data, "--format", formats, "--json"];
        let said = call(&arguments);
        assert_eq!((said.status, &said.json()["kept"]), (Some(0), &100.into()), "{said:?}");
        let before = files(Path::new(&data));
        let present = names(&data);
        for name in [one, "metadata/part-00001.snappy.parquet", "hf/README.md", "hf/data/train-00000-of-00001.parquet"]
        {
            assert!(present.iter().any(|there| there == name), "{name}: {present:?}");
        }
        // Beside every package lies its description, and it holds while nothing changes.
        let described: Vec<_> = present.iter().filter(|name| name.ends_with("/croissant.json")).collect();
        assert_eq!(described.len(), 4, "{present:?}");
        for name in &described {
            let package = Path::new(&data).join(name).parent().expect("a folder").to_str().expect("plain").to_owned();
            assert_eq!(call(&["verify", &package]).status, Some(0), "{package}");
        }
        assert_eq!(call(&["verify", &data]).status, Some(0));
        assert_eq!(call(&arguments).json(), said.json());
        assert!(files(Path::new(&data)) == before, "the second call changed something");
        // One form more makes that one, and leaves the others alone.
        let (_other, again) = self::folder();
        call(&["pack", &golden(input), "-o", &again, "--format", "hf"]);
        call(&["pack", &golden(input), "-o", &again, "--format", formats]);
        assert!(files(Path::new(&again)) == before, "the order of the calls can be seen");
        // A package that is damaged is found, with or without its marker.
        let mut bytes = before[Path::new("hf/data/train-00000-of-00001.parquet")].clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs_err::write(Path::new(&data).join("hf/data/train-00000-of-00001.parquet"), bytes).expect("room");
        for place in [data.clone(), format!("{data}/hf")] {
            let said = call(&["verify", &place]);
            assert_eq!(said.status, Some(1), "{said:?}");
            assert!(said.stdout.contains("train-00000-of-00001.parquet"), "{said:?}");
        }
    }
}

#[test]
fn the_metadata_of_the_release_becomes_parquet_and_hf_and_nothing_else() {
    let (_folder, data) = folder();
    let (images, meta) = (golden("inputs/images-100"), format!("{data}/metadata"));
    assert_eq!(call(&["pack", &images, "-o", &data, "--format", "parquet"]).status, Some(0));
    for format in ["tfds", "webdataset", "npy"] {
        call(&["pack", &meta, "-o", &data, "--format", format]).could_not_run(&[
            &meta,
            "metadata alone",
            "parquet or hf",
            format,
        ]);
    }
    // An input is never written over.
    call(&["pack", &meta, "-o", &data]).could_not_run(&[&meta, "another output"]);
    let (_other, packed) = folder();
    let said = call(&["pack", &meta, "-o", &packed, "--format", "parquet,hf", "--json"]);
    assert_eq!((said.status, &said.json()["kept"]), (Some(0), &100.into()), "{said:?}");
    for part in ["part-00000.snappy.parquet", "part-00001.snappy.parquet"] {
        let read = |folder: &str| fs_err::read(Path::new(folder).join("metadata").join(part)).expect("packed");
        assert!(read(&data) == read(&packed), "the table of a table is the same table");
    }
    // A single file is an input, too; unasked it becomes Parquet.
    let (_third, single) = folder();
    let said = call(&["pack", &format!("{meta}/part-00001.snappy.parquet"), "-o", &single, "--json"]);
    assert_eq!((said.status, &said.json()["kept"]), (Some(0), &50.into()), "{said:?}");
    assert_eq!(names(&single), ["metadata/croissant.json", "metadata/part-00000.snappy.parquet", "metadata.json"]);
    // A table of other columns is named with the column it lacks.
    let (other, _) = folder();
    let table = other.path().join("part-0.parquet");
    fs_err::copy(golden("inputs/images-100/00000.parquet"), &table).expect("room");
    let name = other.path().to_str().expect("a plain path");
    call(&["pack", name, "-o", &single]).could_not_run(&["part-0.parquet", "no column \"URL\""]);
}

#[test]
fn what_cannot_be_made_of_an_input_is_said_with_what_can() {
    let (_folder, data) = folder();
    let (images, embeddings) = (golden("inputs/images-100"), golden("inputs/embeddings-100"));
    call(&["pack", &images, "-o", &data, "--format", "npy"]).could_not_run(&[&images, "pictures", "hf", "not npy"]);
    let said = call(&["pack", &embeddings, "-o", &data, "--format", "hf,webdataset"]);
    said.could_not_run(&[&embeddings, "embeddings", "npy", "not webdataset"]);
    call(&["pack", &images, "-o", &data, "--format", "hf,hf"]).could_not_run(&["--format", "hf twice"]);
    assert!(!Path::new(&data).exists(), "nothing was begun");
}
