//! Rows of a table: a struct per table, a field per column.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, SchemaRef};

/// A struct that can be read from a Parquet table.
pub trait FromBatch: Sized {
    /// Columns as rows; columns are found by name, further ones are ignored. The error says which column is wrong.
    fn from_batch(batch: &RecordBatch) -> Result<Vec<Self>, String>;
}

/// A struct that is a row of a Parquet table of ours. Made by `table!`.
pub trait Row: FromBatch {
    /// Columns in order.
    fn schema() -> SchemaRef;
    /// Rows as columns.
    fn to_batch(rows: &[Self]) -> RecordBatch;
}

/// A value of one cell.
pub(crate) trait Cell: Sized + Clone {
    /// The column of such cells.
    fn field(name: &str) -> Field;
    /// Values as a column.
    fn array(values: impl Iterator<Item = Self>) -> ArrayRef;
    /// A column as values, `None` where a cell must not be null but is.
    fn values(array: &dyn Array) -> Option<Vec<Self>>;
}

macro_rules! cell {
    ($type:ty, $data_type:expr, $array:ty, $native:ident => $read:expr) => {
        impl Cell for $type {
            fn field(name: &str) -> Field {
                Field::new(name, $data_type, false)
            }
            fn array(values: impl Iterator<Item = Self>) -> ArrayRef {
                Arc::new(<$array>::from_iter(values.map(Some)))
            }
            fn values(array: &dyn Array) -> Option<Vec<Self>> {
                let $native = array;
                let values = $read;
                values.into_iter().collect()
            }
        }

        impl Cell for Option<$type> {
            fn field(name: &str) -> Field {
                Field::new(name, $data_type, true)
            }
            fn array(values: impl Iterator<Item = Self>) -> ArrayRef {
                Arc::new(<$array>::from_iter(values))
            }
            fn values(array: &dyn Array) -> Option<Vec<Self>> {
                let $native = array;
                Some($read)
            }
        }
    };
}

cell!(String, DataType::Utf8, StringArray, array => {
    array.as_string::<i32>().iter().map(|value| value.map(str::to_owned)).collect::<Vec<_>>()
});
cell!(i32, DataType::Int32, Int32Array, array => array.as_primitive::<Int32Type>().iter().collect::<Vec<_>>());
cell!(i64, DataType::Int64, Int64Array, array => array.as_primitive::<Int64Type>().iter().collect::<Vec<_>>());
cell!(f64, DataType::Float64, Float64Array, array => array.as_primitive::<Float64Type>().iter().collect::<Vec<_>>());

/// The column `name` of a batch as values; `lacking` in every row where there is no such column.
pub(crate) fn column<T: Cell>(batch: &RecordBatch, name: &str, lacking: Option<&T>) -> Result<Vec<T>, String> {
    let Some(array) = batch.column_by_name(name) else {
        let value = lacking.ok_or_else(|| format!("no column {name:?}"))?;
        return Ok(vec![value.clone(); batch.num_rows()]);
    };
    let field = T::field(name);
    if array.data_type() != field.data_type() {
        return Err(format!("column {name:?} holds {}, not {}", array.data_type(), field.data_type()));
    }
    T::values(array).ok_or_else(|| format!("column {name:?} has a null"))
}

/// Defines a row type and its columns. Files of other programs may lack a column that is followed by `or` and a value.
macro_rules! table {
    ($(#[$doc:meta])* $row:ident {
        $($(#[$field_doc:meta])* $field:ident: $type:ty = $column:literal $(or $lacking:expr)?,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $row { $($(#[$field_doc])* pub $field: $type,)* }

        impl $crate::row::Row for $row {
            fn schema() -> arrow_schema::SchemaRef {
                let fields = vec![$(<$type as $crate::row::Cell>::field($column)),*];
                std::sync::Arc::new(arrow_schema::Schema::new(fields))
            }

            fn to_batch(rows: &[Self]) -> arrow_array::RecordBatch {
                let columns = vec![$(<$type as $crate::row::Cell>::array(rows.iter().map(|row| row.$field.clone()))),*];
                arrow_array::RecordBatch::try_new(Self::schema(), columns).expect("columns follow the schema")
            }
        }

        impl $crate::row::FromBatch for $row {
            fn from_batch(batch: &arrow_array::RecordBatch) -> Result<Vec<Self>, String> {
                $(
                    let lacking: &[$type] = &[$($lacking)?];
                    let mut $field = $crate::row::column::<$type>(batch, $column, lacking.first())?.into_iter();
                )*
                let row = |_| Self { $($field: $field.next().expect("columns are as long as their batch")),* };
                Ok((0..batch.num_rows()).map(row).collect())
            }
        }
    };
}
pub(crate) use table;
