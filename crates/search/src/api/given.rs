//! Named values of a request, out of its address or out of its body: one way to read them for both.

use serde_json::{Map, Value};

use super::ApiError;

/// Names in one request.
const NAMES_MAX: usize = 64;
/// Values of a list.
const LIST_MAX: usize = 50;
/// Values in a body. A value takes 32 bytes and more, where the body may have two for it.
const VALUES_MAX: usize = 200_000;
/// Longest value of a list, in bytes.
const VALUE_BYTES_MAX: usize = 256;

/// What a request says, by name. Values are taken out one by one, and none may be left.
#[derive(Debug, Default)]
pub(crate) struct Given(Map<String, Value>);

impl Given {
    /// Out of the part of an address behind `?`; a value without characters, as forms send them, counts as absent.
    pub(crate) fn of_pairs(pairs: Vec<(String, String)>) -> Result<Self, ApiError> {
        if pairs.len() > NAMES_MAX {
            return Err(ApiError::wrong(format!("more than {NAMES_MAX} parameters")));
        }
        let mut given = Map::new();
        for (name, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty()) {
            if let Some((name, _)) = given.get_key_value(&name) {
                return Err(ApiError::wrong(format!("{} is given twice", shown(name))));
            }
            given.insert(name, value.into());
        }
        Ok(Self(given))
    }

    /// Out of a body, which is one JSON object.
    pub(crate) fn of_json(body: &[u8]) -> Result<Self, ApiError> {
        object(body).map(Self)
    }

    /// The value itself; `null` counts as absent.
    pub(crate) fn value(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        self.value(name).map(|value| text(name, value)).transpose()
    }

    pub(crate) fn integer(&mut self, name: &str) -> Result<Option<u64>, ApiError> {
        let integer = |value: Value| match &value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let wrong = || ApiError::wrong(format!("{name} is an integer, at least 0"));
        self.value(name).map(|value| integer(value).ok_or_else(wrong)).transpose()
    }

    /// A finite number.
    pub(crate) fn number(&mut self, name: &str) -> Result<Option<f32>, ApiError> {
        let number = |value: Value| {
            let number = match &value {
                Value::Number(number) => number.as_f64(),
                Value::String(text) => text.trim().parse().ok(),
                _ => None,
            };
            number.map(|number: f64| number as f32).filter(|number| number.is_finite())
        };
        let wrong = || ApiError::wrong(format!("{name} is a number"));
        self.value(name).map(|value| number(value).ok_or_else(wrong)).transpose()
    }

    pub(crate) fn flag(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        let flag = |value: Value| match &value {
            Value::Bool(flag) => Some(*flag),
            Value::String(text) => match text.as_str() {
                "true" | "1" => Some(true),
                "false" | "0" => Some(false),
                _ => None,
            },
            _ => None,
        };
        let wrong = || ApiError::wrong(format!("{name} is true or false"));
        self.value(name).map(|value| flag(value).ok_or_else(wrong)).transpose()
    }

    /// Values with commas between them, or an array of them; none where the name is absent.
    pub(crate) fn list(&mut self, name: &str) -> Result<Vec<String>, ApiError> {
        let values = match self.value(name) {
            None => Vec::new(),
            Some(Value::Array(values)) => {
                values.into_iter().map(|value| text(name, value)).collect::<Result<_, _>>()?
            }
            Some(value) => text(name, value)?.split(',').map(str::to_owned).collect(),
        };
        let values: Vec<_> = values.iter().map(|value| value.trim()).filter(|value| !value.is_empty()).collect();
        if values.len() > LIST_MAX || values.iter().any(|value| value.len() > VALUE_BYTES_MAX) {
            let cause = format!("{name} has at most {LIST_MAX} values of at most {VALUE_BYTES_MAX} bytes");
            return Err(ApiError::wrong(cause));
        }
        Ok(values.into_iter().map(str::to_owned).collect())
    }

    /// Refuses what nobody took.
    pub(crate) fn finish(&self) -> Result<(), ApiError> {
        match self.0.iter().find(|(_, value)| !value.is_null()) {
            Some((name, _)) => Err(ApiError::wrong(format!("no such option: {}", shown(name)))),
            None => Ok(()),
        }
    }
}

/// A body that is one JSON object, whose values are few enough to be held.
pub(crate) fn object(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    if body.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count() > VALUES_MAX {
        return Err(ApiError::wrong(format!("the body has more than {VALUES_MAX} values")));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(ApiError::wrong("the body is a JSON object")),
        Err(error) => Err(ApiError::wrong(format!("the body is a JSON object: {error}"))),
    }
}

fn text(name: &str, value: Value) -> Result<String, ApiError> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(ApiError::wrong(format!("{name} is a text"))),
    }
}

/// The beginning of what somebody sent, for an error message.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}
