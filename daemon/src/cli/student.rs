//! Answers of a student, on this machine.

use super::distill::price;
use super::output::{print_json, table};
use crate::distill::Student;
use miette::{IntoDiagnostic, Result};
use std::path::Path;

/// Labels rows by a student and says where it comes from.
pub(super) fn ask(path: &Path, rows: &[Vec<f64>], json: bool) -> Result<()> {
    let student = Student::load(path).into_diagnostic()?;
    let labels = student.answer(rows).into_diagnostic()?;
    let provenance = student.provenance();
    let classes: Vec<&str> = labels.iter().map(|label| provenance.classes[*label].as_str()).collect();
    if json {
        let answer = serde_json::json!({
            "student": true,
            "labels": labels,
            "classes": classes,
            "charged": 0,
            "provenance": provenance,
        });
        return print_json(&answer);
    }
    let mut cells = table(&["case", "class"]);
    for (index, class) in classes.iter().enumerate() {
        cells.add_row([(index + 1).to_string(), (*class).to_owned()]);
    }
    println!("{cells}");
    println!(
        "a student answered on this machine, distilled from {} labels of task {}; the consortium was not asked",
        provenance.asked.labels, provenance.task
    );
    println!("{}", price(provenance));
    println!("{}", provenance.protects_not);
    Ok(())
}
