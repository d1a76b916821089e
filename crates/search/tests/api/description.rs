//! The OpenAPI description against real answers.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Running, key, png};

/// What is wrong with a value by its JSON Schema, as far as the description uses that language; a word that is not known
/// here is an error, too.
fn wrong(document: &Value, schema: &Value, value: &Value, place: &str) -> Vec<String> {
    let mut wrongs = Vec::new();
    for (word, rule) in schema.as_object().expect("a schema") {
        let fine = match word.as_str() {
            "description" | "default" | "contentEncoding" => true,
            "$ref" => {
                let pointer = rule.as_str().expect("a pointer").strip_prefix('#').expect("into this document");
                let schema = document.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is not there"));
                wrongs.extend(wrong(document, schema, value, place));
                true
            }
            "type" => {
                let names = rule.as_array().cloned().unwrap_or_else(|| vec![rule.clone()]);
                names.iter().any(|name| is(value, name.as_str().expect("a name")))
            }
            "enum" => rule.as_array().expect("values").contains(value),
            "minimum" => value.as_f64().is_none_or(|value| value >= rule.as_f64().expect("a number")),
            "maximum" => value.as_f64().is_none_or(|value| value <= rule.as_f64().expect("a number")),
            "maxLength" => value.as_str().is_none_or(|text| text.len() as u64 <= rule.as_u64().expect("a number")),
            "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= rule.as_u64().expect("a number")),
            "maxItems" => value.as_array().is_none_or(|items| items.len() as u64 <= rule.as_u64().expect("a number")),
            "required" => rule.as_array().expect("names").iter().all(|name| {
                let there = value.get(name.as_str().expect("a name")).is_some();
                if !there {
                    wrongs.push(format!("{place}: {name} is missing"));
                }
                there
            }),
            "items" => {
                for (at, item) in value.as_array().into_iter().flatten().enumerate() {
                    wrongs.extend(wrong(document, rule, item, &format!("{place}/{at}")));
                }
                true
            }
            "prefixItems" => {
                for (rule, item) in rule.as_array().expect("schemas").iter().zip(value.as_array().into_iter().flatten())
                {
                    wrongs.extend(wrong(document, rule, item, place));
                }
                true
            }
            "properties" => {
                for (name, rule) in rule.as_object().expect("schemas") {
                    if let Some(member) = value.get(name) {
                        wrongs.extend(wrong(document, rule, member, &format!("{place}/{name}")));
                    }
                }
                true
            }
            "additionalProperties" => {
                let known = schema.get("properties").and_then(Value::as_object);
                let further = value.as_object().into_iter().flatten();
                let further = further.filter(|(name, _)| known.is_none_or(|known| !known.contains_key(*name)));
                for (name, member) in further {
                    match rule {
                        Value::Bool(true) => {}
                        Value::Bool(false) => wrongs.push(format!("{place}: {name} is not described")),
                        rule => wrongs.extend(wrong(document, rule, member, &format!("{place}/{name}"))),
                    }
                }
                true
            }
            word => panic!("{place}: the word {word} is not known here"),
        };
        if !fine {
            wrongs.push(format!("{place}: {value} is against {word}: {rule}"));
        }
    }
    wrongs
}

fn is(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        name => panic!("no type {name}"),
    }
}

/// Asks every operation that is described, rightly and wrongly, and holds what comes against the description.
#[test]
fn answers_are_as_they_are_described() {
    let running = Running::new();
    fs_err::write(running.run().report(), r#"{"stages":[]}"#).expect("room");
    let document = running.json("/api/v1/openapi.json");
    assert_eq!(document["openapi"], "3.1.0");
    running.json("/api/v1/statistics"); // from now on they are counted
    let query = |query: Value| query.to_string().into_bytes();
    let cases: Vec<(&str, &str, String, Vec<u8>)> = vec![
        ("get", "/api/v1/info", String::new(), vec![]),
        ("get", "/api/v1/report", String::new(), vec![]),
        ("get", "/api/v1/statistics", String::new(), vec![]),
        ("get", "/api/v1/openapi.json", String::new(), vec![]),
        ("get", "/api/v1/search", "?text=a&fold=true&similarity_weight=1".into(), vec![]),
        ("get", "/api/v1/search", "?text=".into(), vec![]),
        ("get", "/api/v1/search", "?key=000990000".into(), vec![]),
        ("post", "/api/v1/search", String::new(), query(json!({"query": [{"text": "a"}], "safe": false}))),
        ("post", "/api/v1/search", String::new(), query(json!({"query": [{"key": "000990000"}]}))),
        ("post", "/api/v1/search", String::new(), b"{".to_vec()),
        ("post", "/api/v1/search/image", "?count=3".into(), png(3)),
        ("post", "/api/v1/search/image", String::new(), vec![]),
        ("get", "/api/v1/random", "?count=3".into(), vec![]),
        ("get", "/api/v1/random", "?count=0".into(), vec![]),
        ("get", "/api/v1/samples/{key}", key(4), vec![]),
        ("get", "/api/v1/samples/{key}", "000990000".into(), vec![]),
        ("get", "/api/v1/images/{key}", key(4), vec![]),
        ("get", "/api/v1/images/{key}", "000990000".into(), vec![]),
        ("post", "/api/v1/export", "?format=csv".into(), query(json!({"keys": [key(4)]}))),
        ("post", "/api/v1/export", "?format=xls".into(), query(json!({"keys": [key(4)]}))),
        ("post", "/api/v1/export", String::new(), query(json!({"keys": ["000990000"]}))),
    ];
    let mut asked = BTreeSet::new();
    for (method, path, rest, body) in cases {
        let operation = &document["paths"][path][method];
        assert!(operation.is_object(), "{method} {path} is not described");
        let address = path.strip_suffix("{key}").unwrap_or(path).to_owned() + &rest;
        let answer = running.ask(&method.to_uppercase(), &address, "", &body);
        let mut described = &operation["responses"][answer.status.to_string()];
        assert!(described.is_object(), "{method} {address}: {} is not described", answer.status);
        if let Some(pointer) = described["$ref"].as_str() {
            described = document.pointer(&pointer[1..]).expect("a response");
        }
        let content = described["content"].as_object().expect("content");
        let kind = answer.head.lines().find_map(|line| line.strip_prefix("content-type: ")).expect("a type");
        let essence = kind.split(';').next().expect("a type");
        let family = format!("{}/*", essence.split('/').next().expect("a type"));
        let content = content.get(essence).or_else(|| content.get(&family));
        let content = content.unwrap_or_else(|| panic!("{method} {address}: {kind} is not described"));
        if let Some(schema) = content.get("schema") {
            let value = serde_json::from_slice(&answer.body).expect("JSON");
            let wrongs = wrong(&document, schema, &value, &address);
            assert!(wrongs.is_empty(), "{wrongs:#?}");
        }
        asked.insert((method.to_owned(), path.to_owned(), answer.status < 300));
    }
    let described = document["paths"].as_object().expect("paths").iter().flat_map(|(path, methods)| {
        methods.as_object().expect("methods").keys().map(move |method| (method.clone(), path.clone(), true))
    });
    for operation in described {
        assert!(asked.contains(&operation), "nobody asked {operation:?}");
    }
}

/// Every option that is described is taken, in an address and in a body, and none beside them.
#[test]
fn options_are_as_they_are_described() {
    let running = Running::new();
    let document = running.json("/api/v1/openapi.json");
    let options = &document["components"]["parameters"];
    let body = &document["components"]["schemas"]["Search"]["properties"];
    let mut names: Vec<_> = body.as_object().expect("members").keys().filter(|name| *name != "query").collect();
    names.sort();
    let mut parameters: Vec<_> = options.as_object().expect("parameters").keys().collect();
    parameters.sort();
    assert_eq!(names, parameters);
    for name in names {
        let schema = &body[name];
        let value = match (schema["type"].as_str().expect("a type"), schema.get("default")) {
            (_, Some(default)) => default.clone(),
            ("array", _) => json!([match name.as_str() {
                "nsfw" => "NSFW",
                "language" => "en",
                _ => "any",
            }]),
            _ => json!(1),
        };
        let query = json!({"query": [{"text": "a"}], name: value});
        running.posted("/api/v1/search", &query);
        let text = value.as_array().map_or(value.clone(), |values| values[0].clone()).to_string();
        running.json(&format!("/api/v1/search?text=a&{name}={}", text.trim_matches('"')));
    }
}

/// A path of the description with another method is refused, and every path of it is known.
#[test]
fn routes_are_those_that_are_described() {
    let running = Running::new();
    let document = running.json("/api/v1/openapi.json");
    for (path, methods) in document["paths"].as_object().expect("paths") {
        let address = path.replace("{key}", &key(1));
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            let described = methods.get(method.to_lowercase()).is_some();
            let status = running.ask(method, &address, "", b"").status;
            assert_eq!(status == 405, !described, "{method} {path}: {status}");
        }
    }
}
