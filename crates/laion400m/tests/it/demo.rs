use fs_err as fs;
use serde_json::Value;

use crate::support::{adds_up, call};

#[test]
fn the_demo_ends_with_a_funnel_that_adds_up_and_a_dataset_that_is_right() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = folder.path().join("demo-run");
    let run = run.to_str().expect("a plain path");
    let said = call(&["demo", "--no-serve", "--json", "--pictures", "800", "-o", run]);
    assert_eq!(said.status, Some(0), "{said:?}");
    let report = said.json();
    let stages = report["stages"].as_array().expect("stages");
    let names: Vec<_> = stages.iter().map(|stage| stage["stage"].as_str().expect("a name")).collect();
    assert_eq!(names, ["collect", "download", "embed", "filter", "pack", "index"]);
    stages.iter().for_each(adds_up);
    for pair in stages.windows(2) {
        assert_eq!(pair[0]["kept"], pair[1]["rows"], "what one stage keeps, the next one takes");
    }
    for reason in ["caption_too_short", "other_language", "duplicate", "file_type"] {
        assert!(stages[0]["dropped"][reason].as_u64() > Some(0), "{reason}: {report}");
    }
    assert!(stages[3]["dropped"]["similarity_too_low"].as_u64() > Some(0), "{report}");
    for (measure, least) in [("precision", 0.85), ("recall", 0.85)] {
        let share = report["truth"][measure].as_f64().expect("measured");
        assert!((least..=1.0).contains(&share), "{measure} {share}");
    }
    let saved = fs::read_to_string(folder.path().join("demo-run/report.json")).expect("written");
    assert_eq!(serde_json::from_str::<Value>(&saved).expect("JSON"), report);

    // The same again: nothing is left to do, and the answer is the same.
    let again = call(&["demo", "--no-serve", "--json", "--pictures", "800", "-o", run]);
    assert_eq!((again.status, again.json()), (Some(0), report.clone()));
    call(&["demo", "--no-serve", "--pictures", "801", "-o", run]).could_not_run(&["demo-run", "800 pictures"]);

    // What it made can be looked at, checked and searched.
    let stats = call(&["stats", run, "--json"]).json();
    assert_eq!((&stats["stages"], &stats["truth"]), (&report["stages"], &report["truth"]));
    let verified = call(&["verify", run, "--json"]);
    assert_eq!((verified.status, &verified.json()["problems"]), (Some(0), &Value::Array(Vec::new())));
    let hits = |text: &str| -> Vec<Value> {
        let said = call(&["search", run, text, "--json", "-c", "5"]);
        said.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let found = hits("three large red circles on a white background");
    let red = found.iter().filter(|hit| hit["caption"].to_string().contains("red"));
    assert!(found.len() == 5 && red.count() >= 3, "{found:#?}");
    let again = hits(found[4]["caption"].as_str().expect("a caption"));
    assert!(again.iter().any(|hit| hit["key"] == found[4]["key"]), "its own caption finds a picture: {again:#?}");
}
