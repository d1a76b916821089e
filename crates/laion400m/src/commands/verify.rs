//! `verify`: every file of a run or package.

use anyhow::Result;
use dataset::Run;
use dataset::files;
use pipeline::verify;

use crate::Ended;
use crate::cli::Look;
use crate::printer::Printer;

pub(super) fn run(options: &Look, printer: &Printer) -> Result<Ended> {
    let run = Run::new(&options.folder);
    let packages = if files::exists(run.pairs())? { None } else { verify::packages(&options.folder)? };
    let checked = packages.map_or_else(|| verify::run(&run), Ok)?;
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
