//! `verify`: every file of a run or package.

use anyhow::Result;
use dataset::Run;
use pipeline::verify;

use crate::Ended;
use crate::cli::Look;
use crate::printer::Printer;

pub(super) fn run(options: &Look, printer: &Printer) -> Result<Ended> {
    let checked = if options.folder.join("dataset_info.json").exists() {
        verify::tfds(&options.folder)
    } else {
        verify::run(&Run::new(&options.folder))?
    };
    if printer.json() {
        printer.data(&serde_json::to_string(&checked)?)?;
    } else {
        for problem in &checked.problems {
            printer.data(problem)?;
        }
        let (files, problems) = (checked.files, checked.problems.len());
        printer.data(&format!("{files} files checked, {problems} problems"))?;
    }
    Ok(if checked.problems.is_empty() { Ended::Done } else { Ended::WithFailures })
}
