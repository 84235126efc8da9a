//! The files of a finished distillation.

use super::work::{Outcome, Work};
use crate::losses::rounded_up_to;

/// Places of an epsilon in a table of all answers.
const PLACES_OF_ONE: u8 = 6;

/// Every question with its answer and what it cost. `epsilon` turns an amount into epsilon; it is rounded up
/// here.
pub fn labels_csv(work: &Work, epsilon: impl Fn(u64) -> Option<f64>) -> String {
    let mut text =
        String::from("row,outcome,class,class_number,release,charged,epsilon_alone,epsilon_so_far\n");
    let cell =
        |value: Option<f64>| value.map_or_else(String::new, |value| rounded_up_to(value, PLACES_OF_ONE));
    let (mut spent, mut last) = (0u64, None);
    for asked in work.asked() {
        let (outcome, class, number) = match asked.outcome {
            Outcome::Label(class) => {
                let name = work.heading().classes.get(usize::from(class)).map_or("", String::as_str);
                ("label", quoted(name), class.to_string())
            }
            Outcome::NoConsensus => ("no consensus", String::new(), String::new()),
            Outcome::Lost => ("lost", String::new(), String::new()),
            Outcome::Open => continue,
        };
        spent = spent.saturating_add(asked.charged);
        let alone = match last {
            Some((charged, alone)) if charged == asked.charged => alone,
            _ => epsilon(asked.charged),
        };
        last = Some((asked.charged, alone));
        text += &format!(
            "{},{outcome},{class},{number},{},{},{},{}\n",
            asked.row,
            asked.release,
            asked.charged,
            cell(alone),
            cell(epsilon(spent))
        );
    }
    text
}

/// A cell of a table, in quotes where it must be.
fn quoted(cell: &str) -> String {
    if cell.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

/// A matrix of single precision as a NumPy file (format 1.0), which PyTorch and others read.
pub fn npy([rows, columns]: [usize; 2], values: &[f32]) -> Vec<u8> {
    /// The values begin at a multiple of this many bytes.
    const ALIGNMENT: usize = 64;
    const START: usize = 10;
    let mut heading = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    // The heading ends with a new line, after spaces.
    let length = (START + heading.len() + 1).next_multiple_of(ALIGNMENT) - START;
    heading.extend(std::iter::repeat_n(' ', length - heading.len() - 1));
    heading.push('\n');
    let mut bytes = Vec::with_capacity(START + length + 4 * values.len());
    bytes.extend_from_slice(b"\x93NUMPY\x01\x00");
    // At most a few hundred bytes.
    bytes.extend_from_slice(&(length as u16).to_le_bytes());
    bytes.extend_from_slice(heading.as_bytes());
    values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::work::{Entry, Heading};
    use super::*;
    use crate::ledger::ReleaseId;

    #[test]
    fn every_question_is_listed_with_what_it_cost() {
        let folder = tempfile::tempdir().unwrap();
        let classes = vec!["no".into(), "yes, \"sure\"".into()];
        let heading =
            Heading { version: 1, task: "t".into(), classes, rows: String::new(), labels: 3, seed: 0 };
        let mut work = Work::open(&folder.path().join("work"), &heading, 10).unwrap();
        let release = |number: u8| ReleaseId([number; 16]);
        let ask = |row: usize, number: u8| Entry::Ask { row, release: release(number) };
        let answer = |number: u8, class| Entry::Answer { release: release(number), class, charged: 4 };
        let lost = Entry::Lost { release: release(3), reason: "x".into() };
        for entry in [ask(7, 1), answer(1, Some(1)), ask(5, 2), answer(2, None), ask(9, 3), lost, ask(2, 4)] {
            work.record(&entry).unwrap();
        }
        let text = labels_csv(&work, |amount| Some(amount as f64 / 2.0));
        let lines: Vec<&str> = text.lines().collect();
        let (first, second) = ("01".repeat(16), "02".repeat(16));
        assert_eq!(lines.len(), 4, "an open question is no answer");
        assert_eq!(lines[1], format!("7,label,\"yes, \"\"sure\"\"\",1,{first},4,2.000000,2.000000"));
        assert_eq!(lines[2], format!("5,no consensus,,,{second},4,2.000000,4.000000"));
        assert_eq!(lines[3].split(',').nth(5), Some("0"));
        assert!(labels_csv(&work, |_| None).lines().nth(1).unwrap().ends_with(",4,,"));
        let third = labels_csv(&work, |amount| Some(amount as f64 / 3.0));
        assert!(third.lines().nth(1).unwrap().ends_with(",1.333334,1.333334"), "never less than the loss");
    }

    #[test]
    fn matrices_are_aligned_and_little_endian() {
        let bytes = npy([2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, -6.0]);
        assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
        let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        assert_eq!(((10 + length) % 64, bytes.len()), (0, 10 + length + 24));
        let heading = std::str::from_utf8(&bytes[10..10 + length]).unwrap();
        assert!(
            heading.starts_with("{'descr': '<f4'") && heading.contains("(2, 3)") && heading.ends_with('\n')
        );
        assert_eq!(bytes[bytes.len() - 4..], (-6.0f32).to_le_bytes());
    }
}
