//! Columns of a user's own, which go from a list to the shards as they are.

use std::sync::Arc;

use arrow_array::{BooleanArray, RecordBatchOptions};
use arrow_json::reader::infer_json_schema_from_iterator;
use arrow_json::writer::{LineDelimited, WriterBuilder};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Schema};
use arrow_select::nullif::nullif;
use serde_json::{Map, Value};

use crate::row::Row;

pub use arrow_array::RecordBatch;
pub use arrow_schema::Fields;

/// Values of a row by the names of their columns.
pub type Object = Map<String, Value>;

/// What the columns of these names hold, told by some rows. Of `texts`, as CSV has them, those are numbers that look like
/// numbers in every row, but for leading zeros, which belong to names.
pub fn fields(names: &[String], rows: &[Object], texts: bool) -> Result<Fields, String> {
    let typed = rows.iter().map(|row| {
        let value = |value: &Value| if texts { meant(value) } else { value.clone() };
        Ok(Value::Object(row.iter().map(|(name, cell)| (name.clone(), value(cell))).collect()))
    });
    let inferred = infer_json_schema_from_iterator(typed).map_err(|error| error.to_string())?;
    let field = |name: &String| match inferred.field_with_name(name) {
        Ok(field) if *field.data_type() != DataType::Null => Arc::new(field.clone()),
        _ => Arc::new(Field::new(name, DataType::Utf8, true)),
    };
    Ok(names.iter().map(field).collect())
}

/// What a text of a CSV says.
fn meant(value: &Value) -> Value {
    let Value::String(text) = value else { return value.clone() };
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.") {
        return value.clone();
    }
    match text.as_str() {
        "" => Value::Null,
        "true" | "True" => true.into(),
        "false" | "False" => false.into(),
        _ if !digits.starts_with(|first: char| first.is_ascii_digit()) => value.clone(),
        _ => text
            .parse::<i64>()
            .map(Value::from)
            .or_else(|_| text.parse::<f64>().map(Value::from))
            .unwrap_or(value.clone()),
    }
}

/// Rows as columns. The error tells the first row that does not fit, and why.
pub fn columns(fields: &Fields, rows: &[Object]) -> Result<RecordBatch, (usize, String)> {
    let wanted = |rows: &[Object]| -> Result<Option<RecordBatch>, ArrowError> {
        let mut decoder = arrow_json::ReaderBuilder::new(Arc::new(Schema::new(fields.clone())))
            .with_coerce_primitive(true)
            .build_decoder()?;
        decoder.serialize(rows)?;
        decoder.flush()
    };
    match wanted(rows) {
        Ok(Some(batch)) => Ok(batch),
        Ok(None) => none(fields, rows.len()).map_err(|error| (0, error.to_string())),
        Err(error) => {
            let first = |(at, row)| wanted(std::slice::from_ref(row)).err().map(|error| (at, error.to_string()));
            Err(rows.iter().enumerate().find_map(first).unwrap_or((0, error.to_string())))
        }
    }
}

/// Rows without a column, or columns without a row.
fn none(fields: &Fields, rows: usize) -> Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let columns = fields.iter().map(|field| arrow_array::new_null_array(field.data_type(), rows)).collect();
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields.clone())), columns, &options)
}

/// The same columns without what this row says.
pub fn concealed(columns: &RecordBatch, row: usize) -> Result<RecordBatch, ArrowError> {
    if columns.num_columns() == 0 {
        return Ok(columns.clone());
    }
    let mask: BooleanArray = (0..columns.num_rows()).map(|at| Some(at == row)).collect();
    let arrays = columns.columns().iter().map(|array| nullif(array, &mask)).collect::<Result<_, _>>()?;
    let field = |field: &FieldRef| Arc::new(field.as_ref().clone().with_nullable(true));
    RecordBatch::try_new(Arc::new(Schema::new(columns.schema().fields().iter().map(field).collect::<Fields>())), arrays)
}

/// The columns whose names no column of a row of type `R` has.
pub fn unlike<R: Row>(columns: &RecordBatch) -> Result<RecordBatch, String> {
    let (known, schema) = (R::schema(), columns.schema());
    let places: Vec<_> = (0..schema.fields().len())
        .filter(|&place| known.field_with_name(schema.field(place).name()).is_err())
        .collect();
    columns.project(&places).map_err(|error| error.to_string())
}

/// Columns as rows, the nulls among them.
pub fn objects(columns: &RecordBatch) -> Result<Vec<Object>, String> {
    if columns.num_columns() == 0 {
        return Ok(vec![Object::new(); columns.num_rows()]);
    }
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write(columns).and_then(|()| writer.finish()).map_err(|error| error.to_string())?;
    let lines = writer.into_inner();
    let objects = serde_json::Deserializer::from_slice(&lines).into_iter();
    objects.collect::<Result<_, _>>().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(json: &str) -> Vec<Object> {
        serde_json::from_str(json).expect("objects")
    }

    #[test]
    fn values_come_back_with_their_types() {
        let names = ["id", "score", "ok", "boxes", "name", "nothing"].map(str::to_owned);
        let rows = rows(
            r#"[{"id":7,"score":0.5,"ok":true,"boxes":[[0.1,0.2,0.3,0.4]],"name":"a","nothing":null},
                {"id":null,"score":2,"ok":null,"boxes":[],"name":null,"nothing":null}]"#,
        );
        let fields = fields(&names, &rows, false).expect("types");
        let types: Vec<_> = fields.iter().map(|field| field.data_type().to_string()).collect();
        assert_eq!(types[0..3], ["Int64", "Float64", "Boolean"]);
        assert_eq!((&*types[4], &*types[5]), ("Utf8", "Utf8"));
        let columns = columns(&fields, &rows).expect("columns");
        let hidden = objects(&concealed(&columns, 0).expect("columns")).expect("rows");
        assert!(hidden[0].values().all(Value::is_null));
        assert_eq!(hidden[1], objects(&columns).expect("rows")[1]);
        let mut expected = rows.clone();
        expected[1]["score"] = 2.0.into();
        assert_eq!(objects(&columns).expect("rows"), expected);
    }

    #[test]
    fn texts_are_numbers_where_all_look_like_numbers() {
        let names = ["id", "code", "score", "mixed"].map(str::to_owned);
        let texts = rows(
            r#"[{"id":"7","code":"007","score":"1.50","mixed":"7"},{"id":"-8","code":"1","score":"3","mixed":"x"},
                {"id":"","code":"","score":"","mixed":""}]"#,
        );
        let fields = fields(&names, &texts, true).expect("types");
        let types: Vec<_> = fields.iter().map(|field| field.data_type().to_string()).collect();
        assert_eq!(types, ["Int64", "Utf8", "Float64", "Utf8"]);
        let columns = columns(&fields, &texts[..2]).expect("columns");
        let back = serde_json::to_string(&objects(&columns).expect("rows")).expect("plain data");
        assert_eq!(
            back,
            r#"[{"code":"007","id":7,"mixed":"7","score":1.5},{"code":"1","id":-8,"mixed":"x","score":3.0}]"#
        );
    }

    #[test]
    fn a_row_that_does_not_fit_is_named() {
        let fields = fields(&["id".into()], &rows(r#"[{"id":7}]"#), false).expect("types");
        let (row, cause) = columns(&fields, &rows(r#"[{"id":8},{"id":"nine"},{"id":"ten"}]"#)).expect_err("no number");
        assert_eq!(row, 1);
        assert!(cause.contains("nine"), "{cause}");
    }

    #[test]
    fn no_columns_are_as_many_rows() {
        let columns = columns(&Fields::empty(), &rows("[{},{},{}]")).expect("nothing to do");
        assert_eq!(objects(&columns).expect("rows").len(), 3);
    }
}
