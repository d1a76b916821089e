//! Version 1 of the API.

use serde_json::{Value, json};

use crate::support::{Running, TWINS, caption, each, key, of_picture, of_text, png};

fn keys(answer: &Value) -> Vec<String> {
    each(answer, "key").iter().map(|key| key.as_str().expect("a text").to_owned()).collect()
}

#[test]
fn a_text_and_a_sample_and_an_embedding_find_the_same() {
    let running = Running::new();
    let by_text = running.json("/api/v1/search?text=picture+7&count=5");
    assert_eq!(keys(&by_text)[0], key(7));
    let first = &by_text["results"][0];
    assert_eq!((first["id"].as_u64(), first["caption"].as_str()), (Some(7), Some(&*caption(7))));
    assert_eq!(running.get(first["image"].as_str().expect("an address")).body, png(7));
    assert_eq!(keys(&running.json(&format!("/api/v1/search?key={}&count=5", key(7)))), keys(&by_text));
    for part in [
        json!({"text": caption(7)}),
        json!({"key": key(7)}),
        json!({"embedding": of_picture(7).values()}),
        json!({"embedding": of_picture(7).values().iter().map(|value| value * 3.0).collect::<Vec<_>>()}),
        json!({"image": base64(&png(7)), "weight": 2.5}),
    ] {
        let found = running.posted("/api/v1/search", &json!({"query": [part], "count": 5}));
        assert_eq!(keys(&found), keys(&by_text), "{part}");
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[test]
fn a_picture_finds_itself_first() {
    let running = Running::new();
    let found = running.ask("POST", "/api/v1/search/image?count=4&safe=false", "Content-Type: image/png\r\n", &png(8));
    let found = found.json("a picture");
    assert_eq!(keys(&found)[0], key(8));
    let form = running.ask("POST", "/api/v1/search/image", "Content-Type: multipart/form-data; boundary=x\r\n", b"--x");
    assert_eq!(form.status, 415);
    for (body, cause) in [(&b""[..], "empty"), (b"no picture", "picture"), (&png(8)[..40], "picture")] {
        let answer = running.post("/api/v1/search/image", body);
        assert!(answer.status == 400 && answer.cause("error").contains(cause), "{}", answer.text());
    }
}

#[test]
fn texts_are_combined_as_their_embeddings_are() {
    let running = Running::new();
    let sum = of_text("beach").values().iter().zip(of_text("people").values()).map(|(a, b)| a - b).collect::<Vec<_>>();
    let expected = running.posted("/api/v1/search", &json!({"query": [{"embedding": sum}]}));
    let scores = |answer: &Value| each(answer, "score");
    let by_address = running.json("/api/v1/search?text=beach+-+people");
    assert_eq!(keys(&by_address), keys(&expected));
    let by_parts = json!({"query": [{"text": "beach"}, {"text": "people", "weight": -1}]});
    assert_eq!(scores(&running.posted("/api/v1/search", &by_parts)), scores(&by_address));
    let cancelled = running.get("/api/v1/search?text=beach+-+beach");
    assert!(cancelled.status == 400 && cancelled.cause("error").contains("cancel"), "{}", cancelled.text());
}

#[test]
fn filters_let_through_what_they_say() {
    let running = Running::new();
    let ids = |query: &str| {
        let found = running.json(&format!("/api/v1/search?text=a&count=200{query}"));
        let mut ids: Vec<_> = each(&found, "id").iter().map(|id| id.as_u64().expect("a number") as u32).collect();
        ids.sort_unstable();
        let random = running.json(&format!("/api/v1/random?seed=3&count=200{query}"));
        let mut same: Vec<_> = each(&random, "id").iter().map(|id| id.as_u64().expect("a number") as u32).collect();
        same.sort_unstable();
        assert_eq!(same, ids, "a random sample of all: {query}");
        ids
    };
    let rows = |is: &dyn Fn(u32) -> bool| (0..60).filter(|&number| is(number)).collect::<Vec<_>>();
    assert_eq!(ids(""), rows(&|number| number % 3 != 2));
    assert_eq!(ids("&safe=false"), rows(&|_| true));
    assert_eq!(ids("&nsfw=unsure"), rows(&|number| number % 3 == 2));
    assert_eq!(ids("&nsfw=UNSURE,UNLIKELY"), rows(&|_| true));
    assert_eq!(ids("&safe=false&similarity_min=0.5"), rows(&|number| number >= 30));
}

#[test]
fn random_samples_follow_from_the_seed() {
    let running = Running::new();
    let random = |query: &str| keys(&running.json(&format!("/api/v1/random?safe=false&{query}")));
    assert_eq!(random("seed=1&count=20"), random("seed=1&count=20"));
    assert_ne!(random("seed=1&count=20"), random("seed=2&count=20"));
    assert_eq!([random("seed=1&count=10"), random("seed=1&count=10&offset=10")].concat(), random("seed=1&count=20"));
    let all = running.json("/api/v1/random?count=5");
    assert!(each(&all, "score").iter().all(Value::is_null), "nobody asked for anything");
}

#[test]
fn near_duplicates_are_folded_and_pages_still_fit_together() {
    let running = Running::new();
    let plain = running.json("/api/v1/search?text=picture+10&safe=false&count=60");
    let twins = TWINS.map(key).collect::<Vec<_>>();
    assert_eq!(keys(&plain)[..4], [&[key(10)], &twins[..]].concat());
    let folded = running.json("/api/v1/search?text=picture+10&safe=false&count=60&fold=true");
    assert_eq!((each(&folded, "folded")[0].as_u64(), keys(&folded).len()), (Some(3), 57));
    assert!(!keys(&folded).iter().any(|key| twins.contains(key)));
    let page = |offset: usize| {
        let query = format!("/api/v1/search?text=picture+10&safe=false&fold=true&count=20&offset={offset}");
        keys(&running.json(&query))
    };
    assert_eq!([page(0), page(20), page(40)].concat(), keys(&folded));
}

#[test]
fn a_weight_puts_similar_pairs_first() {
    let running = Running::new();
    let found = running.json("/api/v1/search?text=picture+7&safe=false&count=60&similarity_weight=100");
    let similarities: Vec<_> = each(&found, "similarity").iter().map(|value| value.as_f64().expect("known")).collect();
    assert!(similarities.windows(2).filter(|pair| pair[0] < pair[1]).count() < 5, "{similarities:?}");
    assert_eq!(keys(&found)[0], key(59));
    let score = each(&found, "score")[0].as_f64().expect("a number");
    let expected = 100.0 * 59.0 / 60.0 + of_picture(7).similarity(&of_picture(59));
    assert!((score - expected).abs() < 1e-2, "{score} instead of {expected}");
}

#[test]
fn all_columns_of_a_sample_are_told() {
    let running = Running::new();
    let sample = running.json(&format!("/api/v1/samples/{}", key(3)));
    for (member, value) in [
        ("caption", json!(caption(3))),
        ("key", json!(key(3))),
        ("original_width", json!(400)),
        ("NSFW", json!("UNLIKELY")),
        ("similarity", json!(0.05)),
        ("id", json!(3)),
        ("image", json!(format!("/api/v1/images/{}", key(3)))),
    ] {
        assert_eq!(sample[member], value, "{member} of {sample}");
    }
    for path in ["/api/v1/samples/000990000", "/api/v1/samples/..%2F..%2Fetc", "/api/v1/images/000990000"] {
        assert_eq!(running.get(path).status, 404, "{path}");
    }
}

#[test]
fn everything_is_counted_once() {
    let running = Running::new();
    let counted = running.json("/api/v1/statistics");
    assert_eq!(counted["rows"], 60);
    assert_eq!(counted["nsfw"], json!({"UNLIKELY": 40, "UNSURE": 20, "NSFW": 0, "UNTAGGED": 0}));
    assert_eq!(counted["hosts"], json!([["a.com", 40], ["img.b.org", 20]]));
    assert_eq!(counted["licenses"][0], json!(["?", 30]));
    assert_eq!(counted["height"], json!([{"from": 192.0, "to": 256.0, "count": 60}]));
    for histogram in ["similarity", "width"] {
        let bins = counted[histogram].as_array().expect("bins");
        assert_eq!(bins.iter().map(|bin| bin["count"].as_u64().expect("a number")).sum::<u64>(), 60, "{histogram}");
        for pair in bins.windows(2) {
            assert_eq!(pair[0]["to"], pair[1]["from"], "{histogram}");
        }
    }
    let info = running.json("/api/v1/info");
    assert_eq!(info["filters"]["licenses"], json!(["https://creativecommons.org/licenses/by-sa/4.0/"]));
    assert_eq!((&info["rows"], &info["dimensions"], &info["images"]), (&json!(60), &json!(16), &json!(true)));
}

#[test]
fn a_basket_is_saved_in_three_formats() {
    let running = Running::new();
    let basket = json!({"keys": [key(40), key(3), key(4)]}).to_string();
    let export = |format: &str| running.post(&format!("/api/v1/export?format={format}"), basket.as_bytes());
    let csv = export("csv");
    assert!(csv.head.contains("content-disposition: attachment; filename=\"samples.csv\""), "{}", csv.head);
    let text = csv.text();
    let lines: Vec<_> = text.split_terminator("\r\n").collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[0].starts_with("image_path,caption,url,key,"), "{text}");
    assert!(lines[2].contains("'=SUM(A1) <script>alert(1)</script>"), "a formula is defused: {text}");
    assert!(lines[1].starts_with(&key(40)) && lines[3].starts_with(&key(4)), "{text}");
    let parquet = export("parquet");
    assert!(parquet.head.contains("samples.parquet") && parquet.body.starts_with(b"PAR1"), "{}", parquet.head);
    let path = running.run().folder().join("basket.parquet");
    fs_err::write(&path, &parquet.body).expect("room");
    let rows = dataset::table::read_table::<dataset::schema::KeptRow>(&path).expect("readable");
    assert_eq!(rows.iter().map(|row| row.key.clone()).collect::<Vec<_>>(), [key(40), key(3), key(4)]);
    assert_eq!(rows[1].caption, caption(3), "only a spreadsheet computes");
    assert_eq!(export("keys").text(), format!("{}\n{}\n{}\n", key(40), key(3), key(4)));
    assert_eq!(export("xlsx").status, 400);
    let unknown = running.post("/api/v1/export", br#"{"keys": ["000990000"]}"#);
    assert!(unknown.status == 404 && unknown.cause("error").contains("000990000"), "{}", unknown.text());
    assert_eq!(running.post("/api/v1/export", br#"{"keys": []}"#).status, 400);
}

#[test]
fn mistakes_are_answered_with_their_cause() {
    let running = Running::new();
    let (long, many) = ("a".repeat(5000), "x=1&".repeat(100));
    let cases = [
        ("text=a&text=b".to_owned(), "twice"),
        ("text=a&txt=b".into(), "no such option: txt"),
        (format!("text={long}"), "longer"),
        (many, "parameters"),
        ("text=a&count=0".into(), "count"),
        ("text=a&count=-1".into(), "count"),
        ("text=a&count=1e3".into(), "count"),
        ("text=a&count=99999999999999999999999".into(), "count"),
        ("text=a&offset=9801".into(), "offset"),
        ("text=a&similarity_min=NaN".into(), "similarity_min"),
        ("text=a&similarity_min=inf".into(), "similarity_min"),
        ("text=a&similarity_weight=1e9".into(), "similarity_weight"),
        ("text=a&safe=perhaps".into(), "safe"),
        ("text=a&nsfw=MAYBE".into(), "nsfw"),
        ("text=a&width_min=4294967296".into(), "width_min"),
        ("text=a&language=english".into(), "language"),
        ("text=%20".into(), "neither text nor key"),
    ];
    for (query, cause) in cases {
        let answer = running.get(&format!("/api/v1/search?{query}"));
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.cause("error").contains(cause), "{query}: {}", answer.text());
    }
    let cases = [
        (json!([]), "object"),
        (json!({}), "query"),
        (json!({"query": []}), "empty"),
        (json!({"query": ["a"]}), "object"),
        (json!({"query": [{"text": "a", "key": key(1)}]}), "one of"),
        (json!({"query": [{"weight": 1}]}), "one of"),
        (json!({"query": [{"text": ""}]}), "empty"),
        (json!({"query": [{"text": 7}]}), "texts"),
        (json!({"query": [{"text": "a", "weight": "much"}]}), "weight"),
        (json!({"query": [{"text": "a", "weight": 1e9}]}), "weight"),
        (json!({"query": [{"embedding": [1, 2]}]}), "16 values"),
        (json!({"query": [{"embedding": vec![0; 16]}]}), "direction"),
        (json!({"query": [{"embedding": vec![1e39; 16]}]}), "numbers"),
        (json!({"query": [{"embedding": "a"}]}), "numbers"),
        (json!({"query": [{"image": "?"}]}), "base64"),
        (json!({"query": vec![json!({"text": "a"}); 17]}), "16 parts"),
        (json!({"query": [{"text": "a"}], "colour": "red"}), "no such option: colour"),
    ];
    for (body, cause) in cases {
        let answer = running.post("/api/v1/search", body.to_string().as_bytes());
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        assert!(answer.cause("error").contains(cause), "{body}: {}", answer.text());
    }
    let missing = json!({"query": [{"key": "000990000"}]});
    assert_eq!(running.post("/api/v1/search", missing.to_string().as_bytes()).status, 404);
    assert_eq!(running.post("/api/v1/search", b"{\"query\": [").status, 400);
    let many = format!("{{\"query\": [{}0]}}", "0,".repeat(1_000_000));
    for path in ["/api/v1/search", "/api/v1/export", "/knn-service", "/metadata"] {
        let answer = running.post(path, many.as_bytes());
        assert!(answer.status == 400 && answer.text().contains("200000 values"), "{path}: {}", answer.text());
    }
    assert_eq!(running.ask("DELETE", "/api/v1/search", "", b"").status, 405);
}

#[test]
fn deleted_samples_are_gone_at_once() {
    let running = Running::new();
    let one = json!({"keys": [key(7)]}).to_string();
    assert_eq!(running.json("/api/v1/statistics")["rows"], 60);
    assert_eq!(keys(&running.json("/api/v1/search?text=picture+7&count=1")), [key(7)]);
    // Another program deletes them.
    search::Index::open(&running.run().index()).expect("built").delete(&[key(7), key(8)]).expect("there");
    for query in [
        "search?text=picture+7&safe=false&count=60",
        "search?text=a&safe=false&count=60&fold=true&similarity_weight=1",
        "search?text=a&modality=text&safe=false&count=60&exact=true",
        "random?safe=false&count=60",
    ] {
        let found = keys(&running.json(&format!("/api/v1/{query}")));
        assert!(found.len() >= 55 && !found.contains(&key(7)) && !found.contains(&key(8)), "{query}: {found:?}");
    }
    for path in ["samples", "images"] {
        assert_eq!(running.get(&format!("/api/v1/{path}/{}", key(7))).status, 404, "{path}");
    }
    assert_eq!(running.get(&format!("/api/v1/search?key={}", key(7))).status, 404);
    assert_eq!(running.post("/api/v1/export?format=csv", one.as_bytes()).status, 404);
    assert_eq!(running.json("/api/v1/statistics")["rows"], 58);
    let info = running.json("/api/v1/info");
    assert_eq!((&info["rows"], &info["deleted"]), (&json!(58), &json!(2)));
    let metrics = running.get("/metrics").text();
    assert!(metrics.lines().any(|line| line == "laion400m_index_rows{index=\"first\"} 58"), "{metrics}");
    let knn = json!({"text": "picture 7", "modality": "image", "num_images": 60, "indice_name": "first"});
    let found = running.posted("/knn-service", &knn);
    assert!(found.as_array().expect("results").iter().all(|result| result["id"] != 7 && result["id"] != 8));
    assert_eq!(running.post("/metadata", br#"{"ids": [7], "indice_name": "first"}"#).status, 400);
    running.posted("/metadata", &json!({"ids": [7], "indice_name": "second"}));
}
