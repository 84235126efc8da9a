//! Encodings of public digits that two hospitals send each other in turn. They protect nothing; it is the sending that is
//! tested.

use super::LOOK_EVERY;
use super::load::Board;
use super::tally::Outcome;
use super::terms::{LABORATORY, LABORATORY_HOSPITALS, index};
use super::world::World;
use super::{Failure, TestbedError};
use consilium::admin::{AdminError, AdminReply, send_encodings};
use consilium::datasets::{DIGITS_DEPTH, digits};
use consilium::lab::{EncoderKey, EncoderShape, Figure, Images, Making, encode, measure, write_encodings};
use consilium::training::Statistics;
use consilium_protocol::algebra::prg::Seed;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Images of the file.
const IMAGES: usize = 32;
const SIDE: usize = 8;
/// A receiver that dies or stands still has the sender wait for several deadlines; more is a file that hangs.
const SENT_WITHIN: Duration = Duration::from_secs(240);

/// The roster's words for the task, behind its name.
pub(super) fn roster() -> String {
    format!(
        "kind = \"encodings\"\ntitle = \"Encodings of public digits\"\nhospitals = {LABORATORY_HOSPITALS:?}\nlab = true\n"
    )
}

/// Who sends a file to and fro.
#[derive(Debug)]
pub(super) struct Courier {
    board: Arc<Board>,
    file: PathBuf,
    figure: Figure,
    /// Under which both keep it: what the first one said, and each one after it must say as well.
    name: Option<String>,
    sockets: [PathBuf; 2],
}

impl Courier {
    /// Encodes and attacks the digits.
    pub(super) fn new(world: &World, seed: u64) -> Result<Self, Failure> {
        let table = digits();
        let pixels: Vec<f32> =
            table.inputs.iter().take(IMAGES * SIDE * SIDE).map(|cell| cell / DIGITS_DEPTH).collect();
        let labels = table.labels.iter().take(IMAGES).copied().collect();
        let images = Images::new(SIDE, pixels, labels)?;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let seed = Seed::from_bytes(bytes);
        let shape = EncoderShape { side: SIDE, patch: 2, width: 32, private_depth: 0 };
        let key = EncoderKey::draw(shape, &seed.derive("key", 0))?;
        let making = Making { statistics: Statistics::Batch, batch: IMAGES };
        let encoded = encode(&key, &images, making, &seed.derive("encode", 0), &mut |_, _| ())?;
        let (measured, _) = measure(encoded, &images, &seed.derive("measure", 0), &mut |_, _| ())?;
        let file = world.root().join("encodings.safetensors");
        write_encodings(&file, &measured)?;
        let sockets = LABORATORY_HOSPITALS.map(|name| world.nodes[index(name)].socket());
        Ok(Self { board: world.board.clone(), file, figure: measured.figure().clone(), name: None, sockets })
    }

    /// Sends until the run is over, each time the other way.
    pub(super) async fn keep_sending(mut self) {
        let mut sender = 0;
        while !self.board.is_over() {
            let due = Instant::now() + Duration::from_secs_f64(LABORATORY.every);
            if self.board.is_up(LABORATORY_HOSPITALS[sender]) {
                self.send(sender).await;
                sender = 1 - sender;
            }
            while Instant::now() < due && !self.board.is_over() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }

    async fn send(&mut self, sender: usize) {
        let (from, to) = (LABORATORY_HOSPITALS[sender], LABORATORY_HOSPITALS[1 - sender]);
        let (part, before) = (self.board.now(), self.board.changes(from));
        let started = Instant::now();
        let sending =
            send_encodings(&self.sockets[sender], (LABORATORY.name, to), &self.file, self.figure.clone());
        let told = tokio::time::timeout(SENT_WITHIN, sending).await;
        let took = started.elapsed();
        let stopped = before != self.board.changes(from) || !self.board.is_up(from);
        let outcome = match told {
            Ok(told) => self.judge(to, told, stopped),
            Err(_) if stopped => Outcome::Down,
            Err(_) => {
                Outcome::Untyped(format!("{from} did not say what became of a file within {SENT_WITHIN:?}"))
            }
        };
        if outcome == Outcome::Right {
            self.board.note_keeper(to);
        }
        self.board.note(part, &LABORATORY, outcome, took);
    }

    fn judge(&mut self, to: &str, told: Result<AdminReply, AdminError>, stopped: bool) -> Outcome {
        match told {
            Ok(AdminReply::EncodingsSent(sent)) => {
                let name = self.name.get_or_insert_with(|| sent.name.clone());
                let whole = sent.images == IMAGES && sent.attack == self.figure && sent.to == to;
                match whole && sent.name == *name {
                    true => Outcome::Right,
                    false => Outcome::Wrong(format!("{to} keeps other encodings: {sent:?}")),
                }
            }
            Ok(AdminReply::Refused(refusal)) => Outcome::Refused(refusal),
            // Whoever asks a node that was stopped meanwhile hears nothing, which is no fault of the node.
            _ if stopped => Outcome::Down,
            Ok(other) => Outcome::Untyped(format!("a file of encodings was answered by {other:?}")),
            Err(error) => Outcome::Untyped(format!("a file of encodings: {error}")),
        }
    }
}

/// That at the end each hospital that said to keep what the other one sent holds it, as the very bytes, and nothing else.
pub(super) fn check(world: &World) -> Result<Vec<String>, Failure> {
    let file = std::fs::read(world.root().join("encodings.safetensors"))?;
    let keepers = world.board.keepers();
    let mut problems = Vec::new();
    for (to, from) in
        [(0, 1), (1, 0)].map(|(to, from)| (LABORATORY_HOSPITALS[to], LABORATORY_HOSPITALS[from]))
    {
        let folder = world.nodes[index(to)].state().join("laboratory").join(LABORATORY.name).join(from);
        problems.extend(differing(&folder, &file, keepers.contains(to))?);
    }
    Ok(problems)
}

/// What is wrong with a folder that may hold this file alone, and must where it is `kept`.
fn differing(folder: &Path, file: &[u8], kept: bool) -> Result<Vec<String>, Failure> {
    let unread = |source| TestbedError::Io { what: format!("reading {}", folder.display()), source };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries.collect::<Result<Vec<_>, _>>().map_err(unread)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(unread(error).into()),
    };
    if entries.is_empty() && kept {
        return Ok(vec![format!("{} is empty, but a file was said to be kept there", folder.display())]);
    }
    let mut problems = Vec::new();
    for entry in entries {
        let path = entry.path();
        let held = std::fs::read(&path)
            .map_err(|source| TestbedError::Io { what: format!("reading {}", path.display()), source })?;
        if held != file {
            problems.push(format!("{} is not what was sent", path.display()));
        }
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_missing_or_other_than_it_was_sent_is_a_problem() {
        let folder = tempfile::tempdir().unwrap();
        let problems =
            |below: &str, kept| differing(&folder.path().join(below), b"sent", kept).unwrap().len();
        assert_eq!([problems("none", false), problems("none", true), problems("", true)], [0, 1, 1]);
        std::fs::write(folder.path().join("file"), "sent").unwrap();
        assert_eq!(problems("", true), 0);
        std::fs::write(folder.path().join("file"), "send").unwrap();
        assert_eq!(problems("", false), 1);
        assert!(differing(&folder.path().join("file"), b"sent", true).is_err());
    }
}
