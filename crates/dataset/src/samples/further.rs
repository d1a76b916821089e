//! What is known of samples beyond what embeddings need.

use std::sync::Arc;

use arrow_array::{RecordBatch, UInt64Array};
use arrow_schema::{Field, Schema};
use arrow_select::take::take_record_batch;
use serde_json::Value;

use crate::carried::{self, Fields, Object};
use crate::schema::EmbeddingRow;

/// Longest JSON that is looked at: img2dataset's have a few kilobytes.
const JSON_BYTES_MAX: usize = 16 << 20;

/// Columns of a shard that are no columns of embeddings.
#[derive(Debug)]
pub enum Further {
    /// A table's.
    Table(RecordBatch),
    /// Those of the JSON beside each picture.
    Objects(Vec<Object>),
}

impl Further {
    /// The columns for samples with these numbers, in this order.
    pub fn of(&self, numbers: &[usize]) -> Result<RecordBatch, String> {
        let columns = match self {
            Self::Table(table) => {
                let numbers: UInt64Array = numbers.iter().map(|&number| number as u64).collect();
                take_record_batch(table, &numbers).map_err(|error| error.to_string())?
            }
            Self::Objects(objects) => {
                let objects: Vec<&Object> = numbers.iter().filter_map(|&number| objects.get(number)).collect();
                columns(&objects)?
            }
        };
        carried::unlike::<EmbeddingRow>(&columns)
    }
}

/// Objects as columns, in the order in which their names are met, those of one object as they sort. A column whose values are of different kinds holds texts.
fn columns(objects: &[&Object]) -> Result<RecordBatch, String> {
    let mut names: Vec<&String> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    names.extend(objects.iter().flat_map(|object| object.keys()).filter(|name| seen.insert(*name)));
    let (mut fields, mut arrays) = (Vec::<Arc<Field>>::new(), Vec::new());
    for name in names {
        let of = |text: bool| -> Vec<Object> {
            let value = |value: &Value| match value {
                Value::Null | Value::String(_) => value.clone(),
                other if text => other.to_string().into(),
                other => other.clone(),
            };
            objects
                .iter()
                .map(|object| object.get(name).map(|v| (name.clone(), value(v))).into_iter().collect())
                .collect()
        };
        let column = |rows: &[Object]| {
            let fields: Fields = carried::fields(std::slice::from_ref(name), rows, false)?;
            carried::columns(&fields, rows).map_err(|(_, cause)| cause)
        };
        let column = column(&of(false)).or_else(|_| column(&of(true)))?;
        fields.push(column.schema().fields()[0].clone());
        arrays.push(column.column(0).clone());
    }
    if fields.is_empty() {
        return carried::columns(&Fields::empty(), &vec![Object::new(); objects.len()]).map_err(|(_, cause)| cause);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(|error| error.to_string())
}

/// An object without objects in it, as clip-retrieval flattens it: `{"a": {"b": 1}}` is `{"a.b": 1}` (pandas'
/// `json_normalize`). What is no object says nothing.
pub(super) fn flattened(json: &[u8]) -> Object {
    let mut out = Object::new();
    if json.len() <= JSON_BYTES_MAX
        && let Ok(object) = serde_json::from_slice(json)
    {
        flatten(String::new(), object, &mut out);
    }
    out
}

fn flatten(prefix: String, object: Object, out: &mut Object) {
    for (name, value) in object {
        let name = format!("{prefix}{name}");
        match value {
            Value::Object(inner) if !inner.is_empty() => flatten(format!("{name}."), inner, out),
            Value::Object(_) => {
                out.insert(name, Value::Null);
            }
            value => {
                out.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_flat_columns_and_mixed_ones_are_texts() {
        let objects = [
            br#"{"caption":"a","id":1,"exif":{"Make":"X","more":{"deep":true}},"score":0.5,"tags":["a"]}"#.as_slice(),
            br#"{"id":2,"score":1,"tags":"none","empty":{}}"#,
            b"no JSON",
        ];
        let further = Further::Objects(objects.iter().map(|json| flattened(json)).collect());
        let columns = further.of(&[1, 2, 0]).expect("columns");
        let names: Vec<_> = columns.schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names, ["empty", "id", "score", "tags", "exif.Make", "exif.more.deep"], "caption is the row's own");
        let rows = carried::objects(&columns).expect("rows");
        assert_eq!((&rows[0]["id"], &rows[1]["id"], &rows[2]["id"]), (&2.into(), &Value::Null, &1.into()));
        assert_eq!((&rows[0]["tags"], &rows[2]["tags"]), (&"none".into(), &r#"["a"]"#.into()));
        assert_eq!((&rows[2]["score"], &rows[2]["exif.more.deep"]), (&0.5.into(), &true.into()));
    }

    #[test]
    fn samples_without_json_have_no_columns_but_rows() {
        let further = Further::Objects(vec![Object::new(); 3]);
        let columns = further.of(&[0, 2]).expect("none");
        assert_eq!((columns.num_columns(), columns.num_rows()), (0, 2));
    }
}
