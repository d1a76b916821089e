//! Heads give the scores that PyTorch gives, of which `data/heads` was made (`interop/head_reference.py`), and what is none is
//! said to be none.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor, safetensors};
use clip::Head;
use dataset::{Embedding, Scorer};
use fs_err as fs;

const NAMES: [&str; 6] = ["linear", "linearMSE", "reluMSE", "h14_nsfw", "b32_nsfw", "l14_nsfw"];

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/heads").join(name)
}

fn expected() -> HashMap<String, Tensor> {
    safetensors::load(data("expected.safetensors"), &Device::Cpu).expect("the reference")
}

fn rows() -> Vec<Embedding> {
    let rows = expected()["rows"].to_vec2::<f32>().expect("a matrix");
    rows.into_iter().map(|row| Embedding::stored(row).expect("of unit length")).collect()
}

fn scores(path: &Path, rows: &[Embedding]) -> Vec<f32> {
    Head::open(path, None).expect("a head").scores(rows).expect("of its width")
}

#[test]
fn every_published_head_scores_as_in_pytorch() {
    let (rows, expected) = (rows(), expected());
    let mut all = Vec::new();
    for name in NAMES {
        let found = scores(&data(&format!("{name}.pth")), &rows);
        let wanted: Vec<f32> = expected[name].to_vec1().expect("scores");
        let off = found.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(found.len() == wanted.len() && off < 1e-5, "{name}: {off}");
        // Many rows go through in parts.
        let many: Vec<_> = rows.iter().cycle().take(3000).cloned().collect();
        let apart = scores(&data(&format!("{name}.pth")), &many);
        assert!(apart.iter().zip(wanted.iter().cycle()).all(|(a, b)| (a - b).abs() < 1e-5), "{name}");
        assert!(found.iter().any(|score| (score - found[0]).abs() > 0.05), "{name}: the same for all");
        all.push(found);
    }
    assert!(scores(&data("linear.pth"), &[]).is_empty());
    assert!((4..6).all(|keras| all[keras].iter().all(|score| (0.0..=1.0).contains(score))), "probabilities");
}

#[test]
fn the_file_names_the_head() {
    let folder = tempfile::tempdir().expect("a folder");
    let (copy, same) = (folder.path().join("copy.pth"), folder.path().join("same.safetensors"));
    fs::copy(data("linear.pth"), &copy).expect("room");
    let print = |path: &Path| Head::open(path, None).expect("a head").fingerprint();
    assert_eq!((print(&copy).len(), print(&copy)), (64, print(&data("linear.pth"))));
    let tensors = candle_core::pickle::read_all(&copy).expect("a state_dict");
    safetensors::save(&tensors.into_iter().collect::<HashMap<_, _>>(), &same).expect("room");
    assert_ne!(print(&same), print(&copy));
    assert_eq!(scores(&same, &rows()), scores(&copy, &rows()));
}

#[test]
fn what_is_no_head_is_said_to_be_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let told = |file: &str, bytes: &[u8], parts: &[&str]| {
        let path = folder.path().join(file);
        fs::write(&path, bytes).expect("room");
        let error = Head::open(&path, None).expect_err(file).to_string();
        assert!(error.contains(file) && parts.iter().all(|part| error.contains(part)), "{file}: {error}");
    };
    told("empty.pth", b"", &["Zip"]);
    told("empty.safetensors", b"", &["eader"]);
    told("page.pth", b"<!DOCTYPE html><html>Not Found</html>", &["Zip"]);
    told("page.safetensors", b"<!DOCTYPE html><html>Not Found</html>", &["eader"]);
    told("model.onnx", b"\x08\x08", &["ONNX Runtime"]);
    let whole = fs::read(data("linearMSE.pth")).expect("a head");
    told("half.pth", &whole[..whole.len() / 2], &["Zip"]);
    // Pickles that call functions: nothing is called, and no weights are found.
    let calls = b"\x80\x02cos\nsystem\nq\x00X\x04\x00\x00\x00trueq\x01\x85q\x02Rq\x03.";
    told("calls.pth", &zip("calls/data.pkl", calls), &["no weights in it"]);
    told("pickle.pth", calls, &["Zip"]);
    // Tensors that are described in too few words, or larger than the file.
    let described =
        |rest: &[u8]| [&b"\x80\x02}X\x06\0\0\0weightctorch._utils\n_rebuild_tensor_v2\n"[..], rest, b"Rs."].concat();
    told("short.pth", &zip("short/data.pkl", &described(b")")), &["damaged description"]);
    let storage = b"((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01tQK\0";
    let shape = b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86J\xff\xff\xff\x7fK\x01\x86\x89}t";
    let large = described(&[&storage[..], shape].concat());
    told("large.pth", &zip("large/data.pkl", &large), &["weight has shape [2147483647, 2147483647]"]);
    told("nothing.pth", &zip("a.txt", b"hello"), &["no weights in it"]);

    let tensor = |shape: &[usize], value: f32| Tensor::full(value, shape, &Device::Cpu).expect("small");
    let layers = |of: &[(&str, Tensor)]| {
        let of: HashMap<_, _> = of.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect();
        let path = folder.path().join("made");
        safetensors::save(&of, &path).expect("room");
        fs::read(&path).expect("written")
    };
    let one = |weight: Tensor, bias: Tensor| layers(&[("weight", weight), ("bias", bias)]);
    told("nan.safetensors", &one(tensor(&[1, 4], f32::NAN), tensor(&[1], 0.0)), &["weight", "not finite"]);
    told("two.safetensors", &one(tensor(&[2, 4], 1.0), tensor(&[2], 0.0)), &["gives 2 numbers"]);
    told("flat.safetensors", &one(tensor(&[4], 1.0), tensor(&[1], 0.0)), &["[4]", "no such layer"]);
    told("bias.safetensors", &one(tensor(&[1, 4], 1.0), tensor(&[3], 0.0)), &["[3]", "no such layer"]);
    told(
        "other.safetensors",
        &layers(&[("up.weight", tensor(&[1, 4], 1.0))]),
        &["up.weight", "no known head", ".onnx"],
    );
    let keras = |second: [usize; 2], variance: f32| {
        let (weight, bias) = (tensor(&second, 1.0), tensor(&[second[0]], 0.0));
        layers(&[
            ("norm.mean", tensor(&[4], 0.0)),
            ("norm.variance", tensor(&[4], variance)),
            ("linear_1.weight", tensor(&[3, 4], 1.0)),
            ("linear_1.bias", tensor(&[3], 0.0)),
            ("linear_2.weight", weight),
            ("linear_2.bias", bias),
            ("linear_3.weight", tensor(&[1, 5], 1.0)),
            ("linear_3.bias", tensor(&[1], 0.0)),
        ])
    };
    told("chain.safetensors", &keras([5, 2], 1.0), &["linear_2.weight", "[5, 2]"]);
    told("below.safetensors", &keras([5, 3], -1.0), &["norm.variance", "below 0"]);
    let missing = Head::open(&folder.path().join("missing.pth"), None).expect_err("no file").to_string();
    assert!(missing.contains("missing.pth"), "{missing}");

    let head = Head::open(&data("linear.pth"), None).expect("a head");
    let other = Embedding::normalized(vec![1.0; 16]).expect("a direction");
    let error = head.scores(&[other]).expect_err("of another model").to_string();
    assert!(["linear.pth", "12", "16"].iter().all(|part| error.contains(part)), "{error}");
}

#[test]
fn no_damage_to_a_head_makes_it_panic() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("head.pth");
    let whole = fs::read(data("linear.pth")).expect("a head");
    let (rows, mut refused) = (rows(), 0);
    for place in (0..whole.len()).step_by(3) {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x55;
        fs::write(&path, &damaged).expect("room");
        match Head::open(&path, None) {
            Ok(head) => drop(head.scores(&rows)),
            Err(error) => {
                assert!(error.to_string().contains("head.pth"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 50, "{refused}");
}

/// A zip archive with one file, stored as it is.
fn zip(name: &str, content: &[u8]) -> Vec<u8> {
    let mut crc = !0u32;
    for &byte in content {
        crc = (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()));
    }
    let length = content.len() as u32;
    let common = |out: &mut Vec<u8>| {
        out.extend([20, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        [!crc, length, length, name.len() as u32].iter().for_each(|value| out.extend(value.to_le_bytes()));
    };
    let mut out = b"PK\x03\x04".to_vec();
    common(&mut out); // the upper half of the last number is the length of the extra field: none
    out.write_all(name.as_bytes()).expect("memory");
    out.write_all(content).expect("memory");
    let start = out.len() as u32;
    out.extend(b"PK\x01\x02\x14\x00");
    common(&mut out);
    out.extend([0; 14]);
    out.extend(name.as_bytes());
    let size = out.len() as u32 - start;
    out.extend(b"PK\x05\x06\x00\x00\x00\x00\x01\x00\x01\x00");
    out.extend(size.to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0, 0]);
    out
}
