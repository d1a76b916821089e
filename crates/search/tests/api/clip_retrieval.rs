//! clip-retrieval's API: requests as its documentation, its `ClipClient` and its front end send them, and the answers that
//! its source makes of them, member by member.

use serde_json::{Value, json};

use crate::support::{Running, TWINS, caption, direction, key, of_picture, of_text, png};

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// What `/knn-service` tells of a row, but for the similarity.
fn told(number: u32) -> Value {
    json!({
        "id": number,
        "url": format!("http://{}/{number}.png", ["a.com", "img.b.org"][number as usize / 40]),
        "image_path": key(number),
        "caption": caption(number),
        "NSFW": if number % 3 == 2 { "UNSURE" } else { "UNLIKELY" },
        "image": base64(&png(number)),
    })
}

/// Numbers of the rows by the similarity of their pictures, as float16 keeps them, to a query; and that similarity.
fn ranked(query: &dataset::Embedding, of: impl Fn(u32) -> dataset::Embedding) -> Vec<(u32, f64)> {
    let mut rows: Vec<_> = (0..60)
        .map(|number| {
            let kept = dataset::Embedding::from_f16(&of(number).to_f16()).expect("of length 1");
            (number, query.similarity(&kept))
        })
        .collect();
    rows.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    rows
}

/// Holds an answer against rows and similarities, of which the first `images` are told with their columns.
fn compare(answer: &Value, expected: &[(u32, f64)], images: usize) {
    let results = answer.as_array().expect("an array");
    assert_eq!(results.len(), expected.len(), "{answer}");
    for (place, (result, (number, similarity))) in results.iter().zip(expected).enumerate() {
        let mut result = result.clone();
        let members = result.as_object_mut().expect("an object");
        let found = members.remove("similarity").and_then(|value| value.as_f64()).expect("a number");
        assert!((found - similarity).abs() < 1e-5, "{place}: {found} instead of {similarity}");
        let whole = if place < images { told(*number) } else { json!({"id": number}) };
        assert_eq!(result, whole, "{place}");
    }
}

/// What `ClipClient` sends: every member, those without a value as null.
fn of_client(name: &str, value: Value) -> Value {
    let mut request = json!({
        "text": null, "image": null, "image_url": null, "embedding_input": null,
        "deduplicate": false, "use_safety_model": false, "use_violence_detector": true,
        "indice_name": "first", "use_mclip": false, "aesthetic_score": 9, "aesthetic_weight": 0.5,
        "modality": "image", "num_images": 5, "num_result_ids": 5
    });
    request[name] = value;
    request
}

#[test]
fn its_client_gets_what_it_gets_there() {
    let running = Running::new();
    let query = of_text("a query");
    let expected = ranked(&query, of_picture);
    for (name, value) in [("text", json!("a query")), ("embedding_input", json!(query.values()))] {
        compare(&running.posted("/knn-service", &of_client(name, value)), &expected[..5], 5);
    }
    let answer = running.posted("/knn-service", &of_client("image", json!(base64(&png(7)))));
    compare(&answer, &ranked(&of_picture(7), of_picture)[..5], 5);
}

#[test]
fn an_embedding_of_another_length_multiplies_inner_products() {
    let running = Running::new();
    let query = of_text("a query");
    let twice: Vec<_> = query.values().iter().map(|value| value * 2.0).collect();
    let expected: Vec<_> = ranked(&query, of_picture).into_iter().map(|(row, value)| (row, 2.0 * value)).collect();
    compare(&running.posted("/knn-service", &of_client("embedding_input", json!(twice))), &expected[..5], 5);
}

#[test]
fn the_first_that_is_present_wins() {
    let running = Running::new();
    let all = json!({
        "text": "picture 4", "image": base64(&png(5)), "image_url": "http://a.com/x.png",
        "embedding_input": of_picture(6).values(), "modality": "image", "num_images": 1, "indice_name": null
    });
    let first = |without: &[(&str, Value)]| {
        let mut request = all.clone();
        without.iter().for_each(|(name, value)| request[*name] = value.clone());
        running.post("/knn-service", request.to_string().as_bytes())
    };
    let id = |without: &[(&str, Value)]| first(without).json("a request")[0]["id"].clone();
    assert_eq!(id(&[]), 4);
    assert_eq!(id(&[("text", json!(""))]), 5, "an empty text is absent");
    assert_eq!(id(&[("text", Value::Null)]), 5);
    let by_url = first(&[("text", json!("")), ("image", Value::Null)]);
    assert!(by_url.status == 400 && by_url.cause("message").contains("--allow-image-urls"), "{}", by_url.text());
    assert_eq!(id(&[("text", json!("")), ("image", Value::Null), ("image_url", Value::Null)]), 6);
}

#[test]
fn further_ids_come_without_metadata() {
    let running = Running::new();
    let expected = ranked(&of_text("a query"), of_picture);
    // As its documentation has it: `num_result_ids` in total, of which `num_images` with metadata.
    let request = json!({
        "text": "a query", "modality": "image", "num_images": 4, "indice_name": "first", "num_result_ids": 20
    });
    compare(&running.posted("/knn-service", &request), &expected[..20], 4);
    let mut request = request.clone();
    request["num_images"] = json!(30);
    compare(&running.posted("/knn-service", &request), &expected[..20], 30);
    request["num_images"] = json!(0);
    compare(&running.posted("/knn-service", &request), &expected[..20], 0);
    let ids: Vec<_> = expected[..3].iter().map(|(id, _)| *id).collect();
    let metadata = running.posted("/metadata", &json!({"ids": ids, "indice_name": "first"}));
    let told = |number: u32| {
        let mut metadata = told(number);
        let id = metadata.as_object_mut().expect("an object").remove("id");
        json!({"id": id, "metadata": metadata})
    };
    assert_eq!(metadata, ids.into_iter().map(told).collect::<Value>());
    assert_eq!(running.posted("/metadata", &json!({"ids": []})), json!([]));
}

#[test]
fn captions_are_searched_where_that_is_wanted() {
    let running = Running::new();
    let expected = ranked(&of_text("a query"), |number| direction(u64::from(number) + 1000));
    let request = json!({"text": "a query", "modality": "text", "num_images": 5, "indice_name": "second"});
    compare(&running.posted("/knn-service", &request), &expected[..5], 5);
}

#[test]
fn duplicates_go_and_nothing_comes_for_them() {
    let running = Running::new();
    let request = json!({
        "text": "picture 10", "modality": "image", "num_images": 10, "indice_name": "first", "deduplicate": true
    });
    let expected = ranked(&of_picture(10), of_picture);
    let (first, rest) = (expected[0], &expected[4..10]);
    assert!(expected[1..4].iter().all(|(number, _)| TWINS.contains(number)));
    compare(&running.posted("/knn-service", &request), &[&[first], rest].concat(), 10);
}

#[test]
fn unsafe_rows_go_where_that_is_wanted() {
    let running = Running::new();
    let mut request = of_client("text", json!("a query"));
    request["use_safety_model"] = json!(true);
    let expected: Vec<_> =
        ranked(&of_text("a query"), of_picture).into_iter().filter(|(number, _)| number % 3 != 2).collect();
    compare(&running.posted("/knn-service", &request), &expected[..5], 5);
}

#[test]
fn weights_of_aesthetics_are_numbers_or_nothing() {
    let running = Running::new();
    let expected = ranked(&of_text("a query"), of_picture);
    for (score, weight) in
        [(json!(""), json!("")), (json!(9), json!(0.5)), (json!("9"), json!("0.5")), (json!(null), json!(null))]
    {
        let mut request = of_client("text", json!("a query"));
        (request["aesthetic_score"], request["aesthetic_weight"]) = (score, weight);
        compare(&running.posted("/knn-service", &request), &expected[..5], 5);
    }
}

#[test]
fn the_smaller_addresses_answer_as_there() {
    let running = Running::new();
    let start = running.get("/");
    assert!(start.text() == "\"ok\"\n" && start.head.contains("content-type: application/json"), "{}", start.head);
    assert_eq!(running.json("/indices-list"), json!(["first", "second"]));
    assert_eq!(running.get("/metrics-summary").text(), "No request yet, go do some");
    let request = of_client("text", json!("a query")).to_string();
    // Its clients say of JSON what they like.
    for kind in ["application/json", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded"] {
        let answer = running.ask("POST", "/knn-service", &format!("Content-Type: {kind}\r\n"), request.as_bytes());
        assert_eq!(answer.json(kind).as_array().map(Vec::len), Some(5));
    }
    let summary = running.get("/metrics-summary");
    assert!(summary.head.contains("content-type: text/plain"), "{}", summary.head);
    assert!(summary.text().starts_with("Among 3.0 calls to the knn end point with an average latency of "));
    let metrics = running.get("/metrics").text();
    for line in [
        "full_knn_request_time_count 3",
        "laion400m_index_rows{index=\"second\"} 60",
        "laion400m_embeddings_in_flight 0",
        "laion400m_http_requests_total{route=\"/knn-service\",method=\"POST\",status=\"200\"} 3",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
}

#[test]
fn what_would_be_an_internal_error_there_is_told() {
    let running = Running::new();
    let without = |name: &str| {
        let mut request = of_client("text", json!("a"));
        request.as_object_mut().expect("an object").remove(name);
        request
    };
    let with = |name: &str, value: Value| {
        let mut request = of_client("text", json!("a"));
        request[name] = value;
        request
    };
    let cases = [
        (without("modality"), 400, "modality"),
        (without("num_images"), 400, "num_images"),
        (without("indice_name"), 400, "indice_name"),
        (with("indice_name", json!("third")), 404, "indice_name"),
        (with("text", Value::Null), 400, "must fill one of"),
        (with("text", json!(7)), 400, "text"),
        (with("num_images", json!(-1)), 400, "num_images"),
        (with("num_images", json!(1.5)), 400, "num_images"),
        (with("num_result_ids", json!(0)), 400, "num_result_ids"),
        (with("num_result_ids", json!(10_001)), 400, "num_result_ids"),
        (with("aesthetic_score", json!("much")), 400, "aesthetic_score"),
        (with("aesthetic_weight", json!([])), 400, "aesthetic_weight"),
        (with("use_mclip", json!(true)), 400, "multilingual"),
        (of_client("embedding_input", json!([1.0])), 400, "16 values"),
        (of_client("embedding_input", json!([[1.0]])), 400, "numbers"),
        (of_client("image", json!("?")), 400, "base64"),
        (of_client("image", json!("")), 400, "picture"),
    ];
    for (request, status, cause) in cases {
        let answer = running.post("/knn-service", request.to_string().as_bytes());
        assert_eq!(answer.status, status, "{request}: {}", answer.text());
        assert!(answer.cause("message").contains(cause), "{request}: {}", answer.text());
    }
    for (request, cause) in [
        (json!({"ids": [60], "indice_name": "first"}), "60"),
        (json!({"ids": [-1], "indice_name": "first"}), "ids"),
        (json!({"ids": "1", "indice_name": "first"}), "ids"),
        (json!({"ids": [1]}), "indice_name"),
    ] {
        let answer = running.post("/metadata", request.to_string().as_bytes());
        assert!(answer.status == 400 && answer.cause("message").contains(cause), "{request}: {}", answer.text());
    }
    assert_eq!(running.post("/knn-service", b"{\"text\": NaN}").status, 400);
    assert_eq!(running.get("/knn-service").status, 405);
}
