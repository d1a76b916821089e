use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::{Web, call, files, program};

/// `kill -9` at ten random moments, and a rerun each time: the packages are those of a run nobody disturbed.
#[test]
fn a_killed_build_goes_on_and_gives_the_same_bytes() {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
    let seed = std::env::var("LAION400M_TEST_SEED").map_or(nanos, |seed| seed.parse().expect("a number"));
    println!("LAION400M_TEST_SEED={seed}");
    let mut random = miniweb::Random::new(seed);
    let web = Web::new(420);
    let (recipe, calm) = (web.name("recipe.toml"), web.name("calm"));
    let started = Instant::now();
    let said = call(&["build", &recipe, "-o", &calm, "--quiet"]);
    assert_eq!(said.status, Some(1), "some pictures cannot be had: {said:?}");
    let whole = started.elapsed();
    let expected = files(&web.path("calm/packages"));
    assert!(expected.len() > 20, "{:?}", expected.keys());

    let (mut kills, mut runs) = (0, 0);
    while kills < 10 {
        let name = format!("disturbed-{runs}");
        runs += 1;
        loop {
            let mut command = program();
            command.args(["build", &recipe, "-o", &web.name(&name), "--quiet"]);
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts");
            if kills < 10 {
                // Some land in the first archive, some in the last package, most between.
                let moment = whole.mul_f32(0.7 * random.unit());
                let deadline = Instant::now() + moment;
                while Instant::now() < deadline && child.try_wait().expect("a child").is_none() {
                    std::thread::sleep(Duration::from_millis(2));
                }
                if child.try_wait().expect("a child").is_none() {
                    child.kill().expect("it runs");
                    child.wait().expect("it is dead");
                    kills += 1;
                    continue;
                }
            }
            assert_eq!(child.wait().expect("a child").code(), Some(1), "seed {seed}");
            break;
        }
        let packages = files(&web.path(&name).join("packages"));
        let names =
            |files: &std::collections::BTreeMap<_, _>| files.keys().cloned().collect::<Vec<std::path::PathBuf>>();
        assert_eq!(names(&packages), names(&expected), "seed {seed}");
        for (path, bytes) in &expected {
            assert!(packages[path] == *bytes, "seed {seed}: {} differs", path.display());
        }
        let verified = call(&["verify", &web.name(&name)]);
        assert_eq!(verified.status, Some(0), "seed {seed}: {verified:?}");
    }
}

#[test]
fn a_second_build_in_the_same_folder_is_refused_while_one_is_under_way() {
    let web = Web::new(120);
    let (recipe, run) = (web.name("recipe.toml"), web.name("run"));
    let mut first = program()
        .args(["build", &recipe, "-o", &run, "--quiet"])
        .stdout(Stdio::null())
        .spawn()
        .expect("the program starts");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !web.path("run/pairs").exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    call(&["build", &recipe, "-o", &run]).could_not_run(&["run", "another process"]);
    first.kill().expect("it runs");
    first.wait().expect("it is dead");
}
