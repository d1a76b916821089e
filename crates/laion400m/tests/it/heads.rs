use std::path::{Path, PathBuf};

use clip::Clip;
use dataset::schema::{CuratedRow, KeptRow};
use dataset::table::{further_columns, read_table};
use dataset::{Embedder, list_shards};
use fs_err as fs;
use serde_json::json;

use crate::support::{Web, adds_up, call, files};

/// Builds a run, of which the embeddings are to be filtered again.
fn embedded(web: &Web) -> String {
    assert!(call(&["build", &web.name("recipe.toml"), "-o", &web.name("run")]).status.is_some_and(|status| status < 2));
    web.name("run/embeddings")
}

/// A head as safetensors: one linear layer, of which weight number `place` is 1 and all else 0.
fn write_head(path: &Path, dimensions: usize, place: usize) {
    let mut data = vec![0u8; dimensions * 4 + 4];
    data[place * 4..place * 4 + 4].copy_from_slice(&1f32.to_le_bytes());
    let of =
        |shape: &[usize], from: usize, to: usize| json!({"dtype": "F32", "shape": shape, "data_offsets": [from, to]});
    let header = json!({
        "weight": of(&[1, dimensions], 0, dimensions * 4),
        "bias": of(&[1], dimensions * 4, dimensions * 4 + 4),
    })
    .to_string();
    fs::write(path, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()).expect("room");
}

#[test]
fn heads_score_and_drop_and_are_asked_once() {
    let web = Web::new(200);
    let embeddings = embedded(&web);
    let dimensions = Clip::tiny().dimensions();
    write_head(&web.path("a.safetensors"), dimensions, 0);
    write_head(&web.path("b.safetensors"), dimensions, 1);
    let head = |name: &str, file: &str| format!("{name}={}", web.name(file));
    let (first, second) = (head("first", "a.safetensors"), head("second_2", "b.safetensors"));
    let filter = |output: &str, arguments: &[&str]| {
        let output = web.name(output);
        let common = ["filter", &embeddings, "-o", &output, "--tag-only", "--similarity-min", "-1", "--json"];
        call(&[&common, arguments].concat())
    };
    let scored = ["--head", &first, "--head", &second, "--head-min", "first=0"];
    let said = filter("curated", &scored);
    assert_eq!((said.status, said.stderr.as_str()), (Some(0), ""), "{said:?}");
    let stage = said.json();
    adds_up(&stage);
    let low = stage["dropped"]["score_too_low"].as_u64().expect("some are below 0");
    assert!(stage["kept"].as_u64() > Some(0) && low > 0, "{stage}");
    let table = web.path("curated/00000.parquet");
    let columns = further_columns::<CuratedRow>(&table).expect("sound").schema();
    assert_eq!(columns.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["first", "second_2"]);
    let before = files(&web.path("curated"));
    assert_eq!(filter("curated", &scored).json(), stage, "a second call does nothing and says the same");
    assert!(files(&web.path("curated")) == before);

    let more = [&scored[..], &["--head-max", "second_2=0"]].concat();
    filter("curated", &more).could_not_run(&["00000.json", "other settings"]);
    let both = filter("both", &more).json();
    assert_eq!(both["dropped"]["score_too_low"], low);
    assert!(both["dropped"]["score_too_high"].as_u64() > Some(0), "{both}");
    // The same file with other weights is another head.
    write_head(&web.path("a.safetensors"), dimensions, 2);
    filter("curated", &scored).could_not_run(&["00000.json", "other settings"]);
    assert_ne!(filter("others", &scored).json()["dropped"], stage["dropped"]);
    assert!(files(&web.path("curated")) == before);
    let free = filter("free", &[]);
    assert_eq!((free.json()["dropped"].clone(), free.json()["kept"].clone()), (json!({}), stage["rows"].clone()));
}

/// What heads and language identification found stands in the packages, so searches may filter and weigh by it.
#[test]
fn scores_and_languages_reach_the_search() {
    let web = Web::new(120);
    write_head(&web.path("a.safetensors"), Clip::tiny().dimensions(), 0);
    let recipe = fs::read_to_string(web.path("recipe.toml")).expect("written");
    let heads = "[filter.heads]\naesthetic = { file = \"a.safetensors\" }\n";
    fs::write(web.path("recipe.toml"), format!("{recipe}{heads}")).expect("room");
    embedded(&web);
    let run = web.path("run");
    let id = list_shards(&run.join("curated"), "parquet").expect("sound")[0];
    let scores = |path: PathBuf| further_columns::<KeptRow>(&path).expect("sound");
    let packed = scores(run.join(format!("packages/webdataset/{id}.parquet")));
    let known = further_columns::<CuratedRow>(&run.join(format!("curated/{id}.parquet"))).expect("sound");
    assert_eq!(packed.schema(), known.schema());
    assert!(packed.num_rows() > 0 && packed.column(0).null_count() == 0);
    assert_eq!(scores(run.join("packages/embeddings/metadata/metadata_0.parquet")), packed);
    let rows: Vec<KeptRow> = read_table(&run.join(format!("packages/webdataset/{id}.parquet"))).expect("sound");
    assert!(rows.iter().all(|row| row.language.as_deref() == Some("eng")), "{rows:?}");

    assert_eq!(call(&["index", &web.name("run")]).status, Some(0));
    let found = |language: &str| {
        let said = call(&["search", &web.name("run"), "a red circle", "--language", language, "--json"]);
        assert_eq!(said.status, Some(0), "{said:?}");
        said.stdout.lines().count()
    };
    assert!(found("eng") > 0);
    assert_eq!(found("deu"), 0);
}

#[test]
fn what_is_wrong_with_a_head_is_said_before_anything_is_written() {
    let web = Web::new(60);
    let embeddings = embedded(&web);
    write_head(&web.path("l14.safetensors"), 768, 0);
    fs::write(web.path("page.pth"), "<html>Not Found</html>").expect("room");
    fs::write(web.path("model.onnx"), "no model").expect("room");
    let told = |arguments: &[&str], parts: &[&str]| {
        call(&[&["filter", &embeddings, "-o", &web.name("none")], arguments].concat()).could_not_run(parts);
        assert!(!web.path("none/00000.parquet").exists());
    };
    let head = |file: &str| format!("aesthetic={}", web.name(file));
    told(&["--head", &head("l14.safetensors")], &["l14.safetensors", "768"]);
    told(&["--head", &head("page.pth")], &["open head aesthetic", "page.pth"]);
    told(&["--head", &head("missing.pth")], &["open head aesthetic", "missing.pth"]);
    told(&["--head", &head("model.onnx"), "--onnxruntime", &web.name("none.so")], &["model.onnx", "ONNX Runtime"]);
    told(&["--head", "aesthetic"], &["aesthetic", "no = in it"]);
    told(&["--head-min", "aesthetic=5"], &["aesthetic", "--head"]);
    told(&["--head", &head("page.pth"), "--head", &head("page.pth")], &["aesthetic twice"]);
    told(&["--head-max", "aesthetic=much"], &["aesthetic=much"]);
}

#[test]
fn a_recipe_has_heads_beside_it() {
    let web = Web::new(100);
    write_head(&web.path("a.safetensors"), Clip::tiny().dimensions(), 0);
    let recipe = fs::read_to_string(web.path("recipe.toml")).expect("written");
    let heads = "[filter]\ntag_only = true\n[filter.heads.first]\nfile = \"a.safetensors\"\nmin = 0\n";
    fs::write(web.path("recipe.toml"), recipe + heads).expect("room");
    let said = call(&["build", &web.name("recipe.toml"), "-o", &web.name("run"), "--json"]);
    assert!(said.status.is_some_and(|status| status < 2), "{said:?}");
    let stages = said.json()["stages"].clone();
    let filter = stages.as_array().expect("stages").iter().find(|stage| stage["stage"] == "filter").expect("done");
    adds_up(filter);
    assert!(filter["dropped"]["score_too_low"].as_u64() > Some(0), "{filter}");
    assert_eq!(call(&["verify", &web.name("run")]).status, Some(0));
}
