//! Rows that somebody saves: as a Parquet file or as CSV, in memory.

use arrow_array::RecordBatch;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::DataType;
use parquet::arrow::ArrowWriter;

use crate::table::snappy;
use crate::{Error, Result};

/// What makes a cell a formula in spreadsheets, at its beginning
/// (<https://owasp.org/www-community/attacks/CSV_Injection>).
const FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// A whole Parquet file.
pub fn parquet(rows: &RecordBatch) -> Result<Vec<u8>> {
    let wrong = |error: parquet::errors::ParquetError| Error::Invalid(format!("write Parquet: {error}"));
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(snappy().build())).map_err(wrong)?;
    writer.write(rows).map_err(wrong)?;
    writer.into_inner().map_err(wrong)
}

/// CSV as RFC 4180 has it, with a line of names. Texts come from strangers, and a spreadsheet would compute one that
/// begins like a formula: it gets a `'` in front, which spreadsheets do not show. Numbers stay as they are.
pub fn csv(rows: &RecordBatch) -> Result<Vec<u8>> {
    let wrong = |error: String| Error::Invalid(format!("write CSV: {error}"));
    let options = FormatOptions::default();
    let formatters = rows.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
    let formatters = formatters.collect::<Result<Vec<_>, _>>().map_err(|error| wrong(error.to_string()))?;
    let schema = rows.schema();
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    writer
        .write_record(schema.fields().iter().map(|field| harmless(field.name().clone())))
        .map_err(|error| wrong(error.to_string()))?;
    for row in 0..rows.num_rows() {
        let cells = formatters.iter().zip(schema.fields()).map(|(formatter, field)| {
            let cell = formatter.value(row).to_string();
            if is_number(field.data_type()) { cell } else { harmless(cell) }
        });
        writer.write_record(cells).map_err(|error| wrong(error.to_string()))?;
    }
    writer.into_inner().map_err(|error| wrong(error.to_string()))
}

fn is_number(kind: &DataType) -> bool {
    kind.is_numeric() || *kind == DataType::Boolean
}

fn harmless(cell: String) -> String {
    if cell.starts_with(FORMULA) { format!("'{cell}") } else { cell }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Float64Array, StringArray};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

    use super::*;

    fn rows() -> RecordBatch {
        let texts = [Some("=1+1"), Some("a \"b\",\nc"), Some("@x"), Some("plain"), None, Some("-2")];
        let numbers = [Some(-1.5), Some(2.0), None, Some(0.25), Some(4.0), Some(-0.0)];
        RecordBatch::try_from_iter([
            ("caption", Arc::new(StringArray::from_iter(texts)) as _),
            ("similarity", Arc::new(Float64Array::from_iter(numbers)) as _),
        ])
        .expect("columns of one length")
    }

    #[test]
    fn formulas_are_defused_and_the_rest_is_what_it_was() {
        let written = csv(&rows()).expect("written");
        let text = String::from_utf8(written.clone()).expect("UTF-8");
        assert!(text.starts_with("caption,similarity\r\n'=1+1,-1.5\r\n\"a \"\"b\"\",\nc\",2.0\r\n'@x,\r\n"), "{text}");
        let mut reader = csv::Reader::from_reader(written.as_slice());
        let first: Vec<_> = reader.records().map(|row| row.expect("a row")[0].to_owned()).collect();
        assert_eq!(first, ["'=1+1", "a \"b\",\nc", "'@x", "plain", "", "'-2"]);
    }

    #[test]
    fn a_table_comes_back_as_it_was() {
        let written = bytes::Bytes::from(parquet(&rows()).expect("written"));
        let mut reader = ParquetRecordBatchReader::try_new(written, 100).expect("Parquet");
        assert_eq!(reader.next().expect("a batch").expect("readable"), rows());
    }
}
