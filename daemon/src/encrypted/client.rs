//! A client's side: its secrets, its questions, and what their answers open to.

mod exchange;

use super::shelf::word;
use crate::homomorphic::{HomomorphicError, Secret, Ticket, class, decrypt, encode, make_keys, read_secret};
use crate::message::{Obstacle, Refusal};
use crate::net::{Network, PeerId};
use crate::reception::Reception;
use crate::tally::{Side, Tally};
use crate::transfer::local;
use crate::vault::{VaultError, hex, private_directory, remove_durably, remove_tree, sweep_unfinished};
use consilium_config::HomomorphicTask;
use consilium_protocol::homomorphic::{Mode, Plan};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Longest time for the end of a channel.
const CLOSED_WITHIN: Duration = Duration::from_secs(5);

/// Opened answers, with what they rest on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opened {
    /// The place of the class of each row, in the order of the task's classes.
    pub labels: Vec<u32>,
    /// The same in words.
    pub classes: Vec<String>,
    /// For each row its logits as integers, exact; only where they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logits: Option<Vec<Vec<i128>>>,
    /// By which a logit of the model was multiplied.
    pub output_scale: f64,
    /// Where they come from and what they cost.
    pub terms: OpenedTerms,
    /// Why further rows have no answer; nothing where all have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unanswered: Option<Unanswered>,
}

/// The rows of a question that were not answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unanswered {
    /// The first of them, counted from 1: it and all after it.
    pub row: u64,
    /// Why.
    pub refusal: Refusal,
}

/// Where opened answers come from and what they cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenedTerms {
    /// The task.
    pub task: String,
    /// What ran: always "homomorphic".
    pub kind: String,
    /// Who computed.
    pub owner: String,
    /// How inputs were encrypted.
    pub mode: Mode,
    /// Digest of the plan, in hexadecimal.
    pub plan: String,
    /// The client's key, by its name.
    pub key: String,
    /// Queries that the rows went in.
    pub queries: u32,
    /// Inputs that the owner has counted for this client by now.
    pub counted: u64,
    /// Inputs that are left.
    pub left: u64,
    /// Bytes of evaluation keys that were sent; 0 where the owner held them.
    pub keys_bytes: u64,
    /// Bytes of all queries.
    pub query_bytes: u64,
    /// Bytes of all answers.
    pub answer_bytes: u64,
    /// Bits that were left between noise and modulus, in the worst ciphertext.
    pub margin_bits: f64,
    /// From question to logits.
    pub milliseconds: f64,
}

/// The client of homomorphic tasks.
pub(crate) struct Asker {
    network: Network,
    folder: PathBuf,
    deadline: Duration,
    threads: NonZero<usize>,
    tally: Arc<Tally>,
    /// One question at a time to each owner, by name.
    owners: BTreeMap<String, tokio::sync::Mutex<()>>,
    pub(crate) reception: Reception,
}

/// A question, checked: all rows as integers, one after the other.
struct Prepared {
    plan: Arc<Plan>,
    secret: Arc<Secret>,
    inputs: Arc<Zeroizing<Vec<i64>>>,
    rows: usize,
    files: Files,
    keys_bytes: u64,
}

/// The files of a client for a task and mode.
#[derive(Clone, Debug)]
struct Files {
    plan: PathBuf,
    secret: PathBuf,
    keys: PathBuf,
}

/// What came of one query, not opened yet.
struct Received {
    ticket: Ticket,
    answer: PathBuf,
}

/// What an exchange cost.
#[derive(Default)]
struct Cost {
    counted: u64,
    left: u64,
    keys_bytes: u64,
    query_bytes: u64,
    answer_bytes: u64,
}

impl Asker {
    /// Opens the client's folder, and removes what an earlier run left in its spool.
    ///
    /// # Errors
    /// [`VaultError`].
    pub(crate) fn open(
        folder: &Path,
        tasks: &[HomomorphicTask],
        (network, deadline): (Network, Duration),
        threads: NonZero<usize>,
        tally: Arc<Tally>,
    ) -> Result<Self, VaultError> {
        let asker = Self {
            network,
            folder: folder.to_owned(),
            deadline,
            threads,
            tally,
            owners: tasks.iter().map(|task| (task.owner.to_string(), Default::default())).collect(),
            reception: Reception::default(),
        };
        remove_tree(&folder.join("asked"))?;
        private_directory(&folder.join("secrets"))?;
        Ok(asker)
    }

    /// Where queries to an owner lie on their way.
    fn spool(&self, task: &HomomorphicTask) -> PathBuf {
        self.folder.join("asked").join(task.owner.as_str())
    }

    /// Encrypts rows, has the owner compute on them, and opens what comes back. Without a mode one row goes as a single
    /// query and several as a batch, as far as the owner has both plans. Where the exchange ends before its time, what was
    /// answered until then is opened.
    ///
    /// # Errors
    /// Where nothing was answered:
    /// [`Obstacle::Request`] where rows do not fit, [`Obstacle::Inputs`] where too few are left, what the owner refuses,
    /// and [`Obstacle::Peer`] for an answer that does not open.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        (task, owner): (&HomomorphicTask, PeerId),
        rows: Vec<Vec<f64>>,
        mode: Option<Mode>,
        logits: bool,
    ) -> Result<Opened, Refusal> {
        let _visit = self.reception.enter()?;
        let started = Instant::now();
        let outcome = self.asked((task, owner), rows, mode, started).await;
        let refused = match &outcome {
            Ok(opened) => opened.unanswered.as_ref().map(|unanswered| &unanswered.refusal),
            Err(refusal) => Some(refusal),
        };
        let obstacle = refused.map(|refusal| refusal.obstacle);
        self.tally.note(Side::Client, task.name.as_str(), started.elapsed(), obstacle);
        let mut opened = outcome?;
        opened.logits = opened.logits.filter(|_| logits);
        Ok(opened)
    }

    /// Waits for this node's earlier questions to the same owner, though not for long: who asked may have left, and an
    /// owner may take its time.
    async fn turn(&self, task: &HomomorphicTask) -> Result<tokio::sync::MutexGuard<'_, ()>, Refusal> {
        let turn = self.owners.get(task.owner.as_str());
        let turn = turn.ok_or_else(|| Refusal::new(Obstacle::Task, "this node asks no such task"))?;
        let late = |_| {
            let text = format!(
                "an earlier question of this node to {} has no answer yet; nothing was asked, ask again later",
                task.owner
            );
            Refusal::new(Obstacle::Busy, text)
        };
        tokio::time::timeout(self.deadline, turn.lock()).await.map_err(late)
    }

    async fn asked(
        self: &Arc<Self>,
        (task, owner): (&HomomorphicTask, PeerId),
        rows: Vec<Vec<f64>>,
        mode: Option<Mode>,
        started: Instant,
    ) -> Result<Opened, Refusal> {
        let rows = normalised(task, rows)?;
        let _turn = self.turn(task).await?;
        let (mut channel, plan, left) = self.plan((task, owner), mode, rows.len()).await?;
        if left < rows.len() as u64 {
            let text = format!(
                "{} rows, and the owner answers {left} more inputs of task {} for this node; nothing was asked",
                rows.len(),
                task.name
            );
            return Err(Refusal::new(Obstacle::Inputs, text));
        }
        let (asker, of) = (self.clone(), task.clone());
        let prepared = blocking(move || asker.prepared(&of, plan, &rows)).await?;
        let (plan, secret) = (prepared.plan.clone(), prepared.secret.clone());
        let mut cost = Cost::default();
        let (received, refused) = self.exchange(&mut channel, task, &prepared, &mut cost).await;
        // Closed before anything is opened: what the answers open to must not show in what the owner sees. The end is
        // abrupt for an owner that does not take it.
        drop(tokio::time::timeout(CLOSED_WITHIN, channel.close()).await);
        let (of, spool, threads) = (task.clone(), self.spool(task), self.threads);
        let worked = blocking(move || {
            let outcome = match refused {
                Some(refusal) if received.is_empty() => Err(refusal),
                refused => open_all(&of, &prepared, &received, threads).map(|opened| (opened, refused)),
            };
            if let Err(error) = remove_tree(&spool) {
                tracing::warn!("{error}; the next question or start removes it");
            }
            outcome
        });
        let ((decrypted, margin), refused) = worked.await?;
        let labels: Vec<u32> = decrypted.iter().map(|logits| class(logits) as u32).collect();
        let named = |label: &u32| task.classes.get(*label as usize).cloned().unwrap_or_default();
        Ok(Opened {
            classes: labels.iter().map(named).collect(),
            terms: OpenedTerms {
                task: task.name.to_string(),
                kind: "homomorphic".to_owned(),
                owner: task.owner.to_string(),
                mode: plan.mode,
                plan: hex::encode(&plan.digest()),
                key: secret.id().to_string(),
                queries: labels.len().div_ceil(plan.inputs_max()) as u32,
                counted: cost.counted,
                left: cost.left,
                keys_bytes: cost.keys_bytes,
                query_bytes: cost.query_bytes,
                answer_bytes: cost.answer_bytes,
                margin_bits: margin,
                milliseconds: started.elapsed().as_secs_f64() * 1e3,
            },
            unanswered: refused.map(|refusal| Unanswered { row: labels.len() as u64 + 1, refusal }),
            labels,
            output_scale: plan.scales.output(),
            logits: Some(decrypted),
        })
    }

    /// Rows as integers, and the secret of this plan: the one that is here, or a new one. The spool is there and empty.
    fn prepared(
        &self,
        task: &HomomorphicTask,
        plan: Plan,
        rows: &[Zeroizing<Vec<f32>>],
    ) -> Result<Prepared, Refusal> {
        let mut inputs = Zeroizing::new(Vec::with_capacity(rows.len() * plan.inputs()));
        for (at, row) in rows.iter().enumerate() {
            let encoded = encode(&plan, std::iter::once(row.as_slice())).map_err(|error| match error {
                HomomorphicError::Input { column, value, low, high, .. } => {
                    HomomorphicError::Input { row: at + 1, column, value, low, high }
                }
                error => error,
            });
            inputs.extend_from_slice(&encoded.map_err(|error| Refusal::new(Obstacle::Request, error))?);
        }
        let files = self.files(task, plan.mode).map_err(local)?;
        let secret = match read_secret(&files.secret, &plan) {
            Ok(secret) if files.keys.is_file() => secret,
            outcome => {
                let old = outcome.err().filter(|error| !matches!(error, HomomorphicError::OtherPlan { .. }));
                if let (Some(error), true) = (old, files.secret.exists()) {
                    tracing::warn!(task = %task.name, "a secret cannot be used and is drawn anew: {error}");
                }
                files.forget().map_err(local)?;
                make_keys(&plan, &files.secret, &files.keys).map_err(of_files)?;
                read_secret(&files.secret, &plan).map_err(of_files)?
            }
        };
        let length = std::fs::metadata(&files.keys);
        let length = length.map_err(|source| local(VaultError::io(&files.keys, "inspect", source)))?;
        remove_tree(&self.spool(task)).and_then(|()| private_directory(&self.spool(task))).map_err(local)?;
        Ok(Prepared {
            plan: Arc::new(plan),
            secret: Arc::new(secret),
            inputs: Arc::new(inputs),
            rows: rows.len(),
            files,
            keys_bytes: length.len(),
        })
    }

    fn files(&self, task: &HomomorphicTask, mode: Mode) -> Result<Files, VaultError> {
        let folder = self.folder.join("secrets").join(task.name.as_str());
        private_directory(&folder)?;
        let at = |kind: &str| folder.join(format!("{}.{kind}", word(mode)));
        Ok(Files { plan: at("plan"), secret: at("secret"), keys: at("keys") })
    }
}

impl Files {
    /// Removes a secret and its keys.
    fn forget(&self) -> Result<(), VaultError> {
        remove_durably(&self.secret)?;
        remove_durably(&self.keys)
    }
}

/// The files of a secret, which are removed with this unless everything opened.
struct Suspect<'a> {
    files: &'a Files,
    opened: bool,
}

impl Drop for Suspect<'_> {
    fn drop(&mut self) {
        if !self.opened
            && let Err(error) = self.files.forget()
        {
            tracing::error!("{error}; remove the secret yourself before this node asks again");
        }
    }
}

/// Opens all answers: their logits, and the least margin in bits. Where one does not open, for whatever reason, the secret
/// is not used again: whoever makes such answers on purpose could learn about it from what this side does next.
fn open_all(
    task: &HomomorphicTask,
    prepared: &Prepared,
    received: &[Received],
    threads: NonZero<usize>,
) -> Result<(Vec<Vec<i128>>, f64), Refusal> {
    let mut suspect = Suspect { files: &prepared.files, opened: false };
    let (mut logits, mut margin) = (Vec::with_capacity(prepared.rows), f64::INFINITY);
    for Received { ticket, answer } in received {
        let opened = decrypt(&prepared.plan, &prepared.secret, ticket, answer, threads, &|_, _| ());
        let opened = opened.map_err(|error| {
            let text = format!(
                "an answer of {} does not open: {error}. The next question is under a new secret; do not tell the owner \
                 more than that you ask again",
                task.owner
            );
            let obstacle = match error {
                HomomorphicError::Vault(_) => Obstacle::Local,
                _ => Obstacle::Peer,
            };
            Refusal::new(obstacle, text)
        })?;
        logits.extend(opened.logits);
        margin = margin.min(opened.margin);
    }
    suspect.opened = true;
    Ok((logits, margin))
}

/// Removes secrets of tasks that this node asks no longer, and what a crash left of a file.
///
/// # Errors
/// [`VaultError`].
pub(super) fn sweep_secrets(folder: &Path, asked: &[HomomorphicTask]) -> Result<(), VaultError> {
    let secrets = folder.join("secrets");
    if !secrets.is_dir() {
        return Ok(());
    }
    let failed = |source| VaultError::io(&secrets, "list", source);
    for entry in std::fs::read_dir(&secrets).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        match (entry.path(), asked.iter().any(|task| entry.file_name() == *task.name.as_str())) {
            (path, _) if !path.is_dir() => remove_durably(&path)?,
            (path, true) => sweep_unfinished(&path)?,
            (path, false) => remove_tree(&path)?,
        }
    }
    Ok(())
}

/// Rows after the task's public normalisation.
fn normalised(task: &HomomorphicTask, rows: Vec<Vec<f64>>) -> Result<Vec<Zeroizing<Vec<f32>>>, Refusal> {
    if rows.is_empty() {
        return Err(Refusal::new(Obstacle::Request, "no row was given"));
    }
    let values = task.input.len();
    let normalise = |(at, value): (usize, &f64)| match &task.features {
        Some(features) => features.normalise(at, *value) as f32,
        None => *value as f32,
    };
    // All of them first: those after a bad one are to be zeroised as well.
    let rows: Vec<Zeroizing<Vec<f64>>> = rows.into_iter().map(Zeroizing::new).collect();
    let row = |(index, row): (usize, &Zeroizing<Vec<f64>>)| {
        if row.len() != values {
            let text = format!("row {} has {} values, the task takes {values}", index + 1, row.len());
            return Err(Refusal::new(Obstacle::Request, text));
        }
        Ok(Zeroizing::new(row.iter().enumerate().map(normalise).collect()))
    };
    rows.iter().enumerate().map(row).collect()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Refusal::new(Obstacle::Local, error))?
}

fn of_files(error: HomomorphicError) -> Refusal {
    Refusal::new(Obstacle::Local, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::homomorphic::{encrypt, testing};
    use consilium_config::{EXAMPLE_ROSTER, Features, Roster};

    #[test]
    fn rows_are_normalised_and_those_of_another_length_are_named() {
        let roster = Roster::parse("roster.toml", EXAMPLE_ROSTER).unwrap();
        let mut task = roster.homomorphic_task("digits-encrypted").unwrap().clone();
        let plain = normalised(&task, vec![vec![3.0; 64]; 2]).unwrap();
        assert!(plain.len() == 2 && plain.iter().all(|row| **row == [3.0; 64]));
        task.features = Some(Features { names: Vec::new(), offset: vec![1.0], scale: vec![0.5] });
        assert_eq!(**normalised(&task, vec![vec![3.0; 64]]).unwrap().first().unwrap(), [1.0; 64]);
        let told = |rows| normalised(&task, rows).unwrap_err().explanation;
        assert_eq!(told(vec![vec![0.0; 64], vec![0.0; 63]]), "row 2 has 63 values, the task takes 64");
        assert_eq!(told(Vec::new()), "no row was given");
    }

    #[test]
    fn secrets_that_nobody_uses_are_removed_at_the_start() {
        let roster = Roster::parse("roster.toml", EXAMPLE_ROSTER).unwrap();
        let tasks = [roster.homomorphic_task("digits-encrypted").unwrap().clone()];
        let folder = tempfile::tempdir().unwrap();
        sweep_secrets(folder.path(), &tasks).unwrap();
        let at = |name: &str| folder.path().join("secrets").join(name);
        for task in ["digits-encrypted", "gone"] {
            std::fs::create_dir_all(at(task)).unwrap();
            std::fs::write(at(task).join("batch.secret"), "x").unwrap();
            std::fs::write(at(task).join(".unfinished-1"), "x").unwrap();
        }
        std::fs::write(at("stray"), "x").unwrap();
        sweep_secrets(folder.path(), &tasks).unwrap();
        let left = |path: &Path| std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(left(&folder.path().join("secrets")).collect::<Vec<_>>(), ["digits-encrypted"]);
        assert_eq!(left(&at("digits-encrypted")).collect::<Vec<_>>(), ["batch.secret"]);
        sweep_secrets(folder.path(), &[]).unwrap();
        assert_eq!(left(&folder.path().join("secrets")).count(), 0);
    }

    #[test]
    fn a_secret_is_not_used_again_after_an_answer_that_does_not_open() {
        let roster = Roster::parse("roster.toml", EXAMPLE_ROSTER).unwrap();
        let task = roster.homomorphic_task("digits-encrypted").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (plan, threads) = (testing::small_plan(), NonZero::<usize>::MIN);
        for (answer, obstacle) in [("query", Obstacle::Peer), ("none", Obstacle::Local)] {
            let files = Files { plan: at("plan"), secret: at("secret"), keys: at("keys") };
            make_keys(&plan, &files.secret, &files.keys).unwrap();
            let secret = read_secret(&files.secret, &plan).unwrap();
            let to = (&*at("query"), &*at("ticket"));
            let (ticket, _) = encrypt(&plan, &secret, &[1, 2, 3, 4, 0], to, threads, &|_, _| ()).unwrap();
            let prepared = Prepared {
                plan: Arc::new(plan.clone()),
                secret: Arc::new(secret),
                inputs: Arc::default(),
                rows: 1,
                files,
                keys_bytes: 0,
            };
            let received = Received { ticket, answer: at(answer) };
            let refusal = open_all(task, &prepared, &[received], threads).unwrap_err();
            assert_eq!(refusal.obstacle, obstacle, "{refusal}");
            assert!(refusal.explanation.contains("under a new secret"), "{refusal}");
            assert!(!at("secret").exists() && !at("keys").exists());
        }
    }
}
