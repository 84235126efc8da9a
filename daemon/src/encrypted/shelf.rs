//! What an owner has published for homomorphic tasks: for each a model, sealed, and its plans, which are public.
//!
//! ```text
//! published.json       what is in force
//! <model>.onnx         sealed
//! <model>-batch.plan   as `consilium he plan` writes it
//! <model>-single.plan
//! ```

use super::keyring;
use super::message::FRAMING_BYTES_MAX;
use super::spool::QUERY_BYTES_MAX;
use crate::homomorphic::{Sizes, prepare, random_samples, read_plan, self_test, write_plan};
use crate::message::{Obstacle, Refusal};
use crate::registry::ModelId;
use crate::transfer::local;
use crate::vault::{
    StorageKey, VaultError, hex, private_directory, read_bounded, read_sealed, remove_durably, write_atomic,
    write_sealed,
};
use consilium_config::HomomorphicTask;
use consilium_protocol::algebra::Seed;
use consilium_protocol::homomorphic::{Chosen, Evaluator, Mode, Plan, Scales, choose_scales, with_scales};
use consilium_protocol::model::{FILE_BYTES_MAX, Model, import_for};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Longest book.
const BOOK_BYTES_MAX: u64 = 4 << 20;

/// What an owner published for a homomorphic task at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planned {
    /// The task.
    pub task: String,
    /// Name of the publication.
    pub model: ModelId,
    /// Counts what this owner published for the task, from 1 after a withdrawal.
    pub version: u64,
    /// The layers in words.
    pub summary: String,
    /// Weights and biases.
    pub parameters: u64,
    /// Its plans, at most one of each mode.
    pub plans: Vec<PlanEntry>,
}

/// A plan as it is listed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanEntry {
    /// How inputs are encrypted.
    pub mode: Mode,
    /// Digest of the plan, in hexadecimal.
    pub digest: String,
    /// Inputs of one query.
    pub inputs_max: u64,
    /// Bits of a logit at most.
    pub logit_bits: u32,
    /// What goes over the line.
    pub bytes: Sizes,
}

/// What is to be published.
#[derive(Clone, Debug)]
pub struct ToPublish {
    /// The content of an ONNX file.
    pub file: Vec<u8>,
    /// The one mode that is wanted; both where it is left out, or the one that has a plan.
    pub mode: Option<Mode>,
    /// Scales of inputs and weights, found where they are left out.
    pub scales: Option<Scales>,
}

/// A plan in force.
pub(super) struct LivePlan {
    pub(super) plan: Plan,
    pub(super) digest: [u8; 32],
    /// The file, as clients get it.
    pub(super) file: PathBuf,
    evaluator: Mutex<Option<Arc<Evaluator>>>,
}

/// What is in force for a task.
pub(super) struct Live {
    pub(super) entry: Planned,
    pub(super) plans: Vec<Arc<LivePlan>>,
}

/// Everything that is published. Methods block on the disk, and on arithmetic.
pub(super) struct Shelf {
    folder: PathBuf,
    key: Arc<StorageKey>,
    live: Mutex<BTreeMap<String, Arc<Live>>>,
    /// One plan is looked for at a time, which takes long.
    planning: Mutex<()>,
    /// Files, the book and what is in force change together.
    changing: Mutex<()>,
}

impl Shelf {
    /// Opens the folder. A plan that this version cannot use, or that is none for its task any more, is not in force; files that nothing refers to are removed.
    ///
    /// # Errors
    /// [`VaultError`]; a damaged book is an error of its own.
    pub(super) fn open(
        folder: &Path,
        tasks: &[HomomorphicTask],
        key: Arc<StorageKey>,
    ) -> Result<Self, Refusal> {
        private_directory(folder).map_err(local)?;
        let shelf = Self {
            folder: folder.to_owned(),
            key,
            live: Mutex::default(),
            planning: Mutex::default(),
            changing: Mutex::default(),
        };
        for entry in shelf.read_book()? {
            let task = tasks.iter().find(|task| task.name.as_str() == entry.task);
            let live = shelf.loaded(entry, task);
            shelf.lock().insert(live.entry.task.clone(), Arc::new(live));
        }
        shelf.sweep().map_err(local)?;
        Ok(shelf)
    }

    fn loaded(&self, entry: Planned, task: Option<&HomomorphicTask>) -> Live {
        let mut plans = Vec::new();
        for listed in &entry.plans {
            let file = self.plan_file(entry.model, listed.mode);
            let fitting = |plan: Plan| match task {
                Some(task) => fits(task, &plan).map(|()| plan),
                None => Ok(plan),
            };
            match read_plan(&file).map_err(|error| error.to_string()).and_then(fitting) {
                Ok(plan) => plans.push(Arc::new(LivePlan::new(plan, file, None))),
                Err(error) => {
                    let task = &entry.task;
                    tracing::error!(
                        task,
                        "a plan is not in force: {error}; publish the model of task {task} again"
                    );
                }
            }
        }
        Live { entry, plans }
    }

    /// What is in force for a task.
    pub(super) fn of(&self, task: &str) -> Option<Arc<Live>> {
        self.lock().get(task).cloned()
    }

    /// What is in force for all tasks.
    pub(super) fn all(&self) -> Vec<Planned> {
        self.lock().values().map(|live| live.entry.clone()).collect()
    }

    /// Plans a model for a task, tries the plans, and puts them in force in place of those before. What was changed on the
    /// way, and why a mode has no plan, comes with it.
    ///
    /// # Errors
    /// [`Obstacle::Model`] where there is no plan; [`Obstacle::Local`]. Then what was in force stays.
    pub(super) fn publish(
        &self,
        task: &HomomorphicTask,
        wanted: &ToPublish,
        threads: NonZero<usize>,
    ) -> Result<(Planned, Vec<String>), Refusal> {
        let _planning = self.planning.lock().unwrap_or_else(PoisonError::into_inner);
        let imported = import_for(&wanted.file, Some(task.input)).map_err(unfit)?;
        let (model, mut told) = (imported.model, imported.warnings);
        let mut chosen = Vec::new();
        let modes = wanted.mode.map_or_else(|| vec![Mode::Batch, Mode::Single], |mode| vec![mode]);
        let mut missing = None;
        for mode in modes {
            match planned(task, &model, mode, wanted.scales.as_ref(), threads) {
                Ok(found) => chosen.push(found),
                Err(refusal) => {
                    told.push(format!("no plan for mode {}: {refusal}", word(mode)));
                    missing.get_or_insert(refusal);
                }
            }
        }
        if let (true, Some(refusal)) = (chosen.is_empty(), missing) {
            return Err(refusal);
        }
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let name = ModelId(*Seed::random().map_err(|error| Refusal::new(Obstacle::Local, error))?.as_bytes());
        let version = self.of(task.name.as_str()).map_or(0, |live| live.entry.version) + 1;
        let live = self.written(task, (name, version), &model, wanted, chosen)?;
        let entry = live.entry.clone();
        let before = self.lock().insert(entry.task.clone(), Arc::new(live));
        if let Err(refusal) = self.write_book() {
            let mut live = self.lock();
            match before {
                Some(before) => drop(live.insert(entry.task.clone(), before)),
                None => drop(live.remove(&entry.task)),
            }
            return Err(refusal);
        }
        self.tidied();
        Ok((entry, told))
    }

    /// Writes the files, which nothing refers to yet.
    fn written(
        &self,
        task: &HomomorphicTask,
        (name, version): (ModelId, u64),
        model: &Model,
        wanted: &ToPublish,
        chosen: Vec<Chosen>,
    ) -> Result<Live, Refusal> {
        write_sealed(&self.key, &self.model_file(name), &context(name), &wanted.file).map_err(local)?;
        let mut entry = Planned {
            task: task.name.to_string(),
            model: name,
            version,
            summary: model.network().summary(),
            parameters: parameters(model),
            plans: Vec::new(),
        };
        let mut plans = Vec::new();
        for Chosen { plan, net, .. } in chosen {
            let file = self.plan_file(name, plan.mode);
            write_plan(&file, &plan).map_err(|error| Refusal::new(Obstacle::Local, error))?;
            entry.plans.push(PlanEntry::of(&plan));
            let evaluator = Arc::new(Evaluator::new(plan.clone(), &net));
            plans.push(Arc::new(LivePlan::new(plan, file, Some(evaluator))));
        }
        Ok(Live { entry, plans })
    }

    /// Takes a publication out of force and removes its files. Whether there was one of that name.
    ///
    /// # Errors
    /// [`Obstacle::Local`].
    pub(super) fn withdraw(&self, model: ModelId) -> Result<bool, Refusal> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let found =
            self.lock().values().find(|live| live.entry.model == model).map(|live| live.entry.task.clone());
        let Some(task) = found else { return Ok(false) };
        let before = self.lock().remove(&task);
        if let (Err(refusal), Some(before)) = (self.write_book(), before) {
            self.lock().insert(task, before);
            return Err(refusal);
        }
        self.tidied();
        Ok(true)
    }

    /// What evaluates a plan in force, made from the model when it is first needed.
    ///
    /// # Errors
    /// [`Obstacle::Local`] where the model cannot be read, or is another one.
    pub(super) fn evaluator(
        &self,
        task: &HomomorphicTask,
        model: ModelId,
        live: &LivePlan,
    ) -> Result<Arc<Evaluator>, Refusal> {
        let mut held = live.evaluator.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(evaluator) = &*held {
            return Ok(evaluator.clone());
        }
        let failed = |error: &dyn std::fmt::Display| Refusal::new(Obstacle::Local, error);
        let file = read_sealed(&self.key, &self.model_file(model), &context(model), FILE_BYTES_MAX as u64);
        let file = file.map_err(|error| failed(&error))?;
        let imported = import_for(&file, Some(task.input)).map_err(|error| failed(&error))?;
        let evaluator = Arc::new(prepare(&imported.model, &live.plan).map_err(|error| failed(&error))?);
        *held = Some(evaluator.clone());
        Ok(evaluator)
    }

    fn read_book(&self) -> Result<Vec<Planned>, Refusal> {
        let path = self.book_file();
        if !path.exists() {
            return Ok(Vec::new());
        }
        let failed = |error: &dyn std::fmt::Display| {
            Refusal::new(Obstacle::Local, format!("{}: {error}", path.display()))
        };
        let bytes = read_bounded(&path, BOOK_BYTES_MAX).map_err(|error| failed(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| failed(&error))
    }

    fn write_book(&self) -> Result<(), Refusal> {
        let text =
            serde_json::to_vec_pretty(&self.all()).map_err(|error| Refusal::new(Obstacle::Local, error))?;
        write_atomic(&self.book_file(), &text).map_err(local)
    }

    /// Sweeps after a change, which is in force whether this works or not.
    fn tidied(&self) {
        if let Err(error) = self.sweep() {
            tracing::warn!(
                "files of a model that is out of force are still there: {error}; the next start removes them"
            );
        }
    }

    /// Removes files that nothing in force refers to.
    fn sweep(&self) -> Result<(), VaultError> {
        let mut known: HashSet<PathBuf> = HashSet::from([self.book_file()]);
        for entry in self.all() {
            known.insert(self.model_file(entry.model));
            known.extend(entry.plans.iter().map(|plan| self.plan_file(entry.model, plan.mode)));
        }
        let failed = |source| VaultError::io(&self.folder, "list", source);
        for entry in std::fs::read_dir(&self.folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if !known.contains(&path) {
                remove_durably(&path)?;
            }
        }
        Ok(())
    }

    fn book_file(&self) -> PathBuf {
        self.folder.join("published.json")
    }

    fn model_file(&self, model: ModelId) -> PathBuf {
        self.folder.join(format!("{model}.onnx"))
    }

    fn plan_file(&self, model: ModelId, mode: Mode) -> PathBuf {
        self.folder.join(format!("{model}-{}.plan", word(mode)))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Live>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LivePlan {
    fn new(plan: Plan, file: PathBuf, evaluator: Option<Arc<Evaluator>>) -> Self {
        Self { digest: plan.digest(), plan, file, evaluator: Mutex::new(evaluator) }
    }
}

impl PlanEntry {
    fn of(plan: &Plan) -> Self {
        Self {
            mode: plan.mode,
            digest: hex::encode(&plan.digest()),
            inputs_max: plan.inputs_max() as u64,
            logit_bits: plan.logit_bits,
            bytes: Sizes::of(plan),
        }
    }
}

/// The word for a mode.
pub(super) fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Batch => "batch",
        Mode::Single => "single",
    }
}

/// A plan for a model that passed its self-test.
fn planned(
    task: &HomomorphicTask,
    model: &Model,
    mode: Mode,
    scales: Option<&Scales>,
    threads: NonZero<usize>,
) -> Result<Chosen, Refusal> {
    let range = [task.input_min, task.input_abs_max];
    let samples =
        random_samples(task.input.len(), range).map_err(|error| Refusal::new(Obstacle::Local, error))?;
    let chosen = match scales {
        Some(scales) => with_scales(model, range, mode, scales, &samples),
        None => choose_scales(model, range, mode, &samples),
    };
    let chosen = chosen.map_err(unfit)?;
    fits(task, &chosen.plan).map_err(unfit)?;
    self_test(&chosen.plan, &chosen.net, threads, &|_, _| ()).map_err(unfit)?;
    Ok(chosen)
}

/// Whether a plan is one for the task: as many inputs and outputs, the range of its inputs, and neither keys nor a query
/// larger than what is kept.
pub(super) fn fits(task: &HomomorphicTask, plan: &Plan) -> Result<(), String> {
    let (inputs, outputs) = (plan.inputs(), plan.outputs().max(2));
    if (inputs, outputs) != (task.input.len(), task.classes.len()) {
        return Err(format!(
            "the model reads {inputs} values and tells {outputs} classes apart, task {} has {} and {}",
            task.name,
            task.input.len(),
            task.classes.len()
        ));
    }
    let unit = f64::from(plan.scales.input);
    let range = [task.input_min, task.input_abs_max].map(|end| (end * unit).round() as i64);
    if plan.input_range != range {
        let [low, high] = plan.input_range.map(|end| end as f64 / unit);
        return Err(format!(
            "it takes inputs from {low} to {high}, task {} has {} to {}; the owner has to publish its model again",
            task.name, task.input_min, task.input_abs_max
        ));
    }
    let Sizes { keys, query, answer } = Sizes::of(plan);
    let keys = keys.saturating_add(FRAMING_BYTES_MAX);
    if keys > keyring::BYTES_MAX {
        return Err(format!(
            "its keys have {keys} bytes, at most {} are kept for a client",
            keyring::BYTES_MAX
        ));
    }
    let bytes = [query, answer, 2 * FRAMING_BYTES_MAX].into_iter().fold(keys, u64::saturating_add);
    if bytes > QUERY_BYTES_MAX {
        return Err(format!(
            "a query has {bytes} bytes with its keys and answer, at most {QUERY_BYTES_MAX} are spooled"
        ));
    }
    Ok(())
}

fn unfit(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Obstacle::Model, error)
}

fn context(model: ModelId) -> String {
    format!("homomorphic model {model}")
}

fn parameters(model: &Model) -> u64 {
    let lengths = |index: usize| {
        let layer = &model.network().layers()[index];
        let (weight, bias) = layer.parameters(model.network().shape_before(index));
        (weight + bias) as u64
    };
    let linear = model.network().layers().iter().enumerate().filter(|(_, layer)| layer.is_linear());
    linear.map(|(index, _)| lengths(index)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::homomorphic::testing::model;
    use consilium_protocol::graph::Shape;
    use consilium_protocol::model::export;

    fn task(classes: usize) -> HomomorphicTask {
        HomomorphicTask {
            name: "digits".parse().unwrap(),
            title: "Digits".to_owned(),
            owner: "north".parse().unwrap(),
            clients: vec!["practice".parse().unwrap()],
            input: Shape::vector(5),
            classes: (0..classes).map(|class| class.to_string()).collect(),
            input_min: 0.0,
            input_abs_max: 2.0,
            inputs_per_client_max: 10,
            image: None,
            features: None,
        }
    }

    fn wanted(mode: Option<Mode>) -> ToPublish {
        let scales = Some(Scales { input: 2, maps: vec![1.0, 1.0] });
        ToPublish { file: export(&model(), "test"), mode, scales }
    }

    const ONE: NonZero<usize> = NonZero::<usize>::MIN;

    #[test]
    fn what_is_published_is_there_after_a_restart_and_gone_when_withdrawn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("models");
        let key = Arc::new(StorageKey::random().unwrap());
        let task = task(3);
        let open = || Shelf::open(&path, std::slice::from_ref(&task), key.clone()).unwrap();
        let files = || std::fs::read_dir(&path).unwrap().count();
        let shelf = open();
        let (first, told) = shelf.publish(&task, &wanted(None), ONE).unwrap();
        assert_eq!((first.version, first.plans.len(), first.parameters), (1, 2, 39), "{told:?}");
        assert_eq!(files(), 4, "book, model and two plans");
        let sealed = std::fs::read(shelf.model_file(first.model)).unwrap();
        let file = wanted(None).file;
        assert!(!sealed.windows(16).any(|window| window == &file[..16]), "the model lies sealed");
        drop(shelf);
        std::fs::write(path.join("left-over"), "x").unwrap();
        let shelf = open();
        assert_eq!((shelf.all(), files()), (vec![first.clone()], 4));
        let live = shelf.of("digits").unwrap();
        let made = shelf.evaluator(&task, first.model, &live.plans[0]).unwrap();
        assert_eq!(made.plan(), &live.plans[0].plan);
        assert!(
            Arc::ptr_eq(&made, &shelf.evaluator(&task, first.model, &live.plans[0]).unwrap()),
            "made once"
        );
        let (second, _) = shelf.publish(&task, &wanted(Some(Mode::Single)), ONE).unwrap();
        assert_eq!((second.version, files()), (2, 3), "in place of the first");
        assert!(!shelf.withdraw(first.model).unwrap(), "that one is gone already");
        assert!(shelf.withdraw(second.model).unwrap());
        assert_eq!((shelf.all(), files()), (Vec::new(), 1));
        assert!(shelf.of("digits").is_none() && open().of("digits").is_none());
    }

    #[test]
    fn what_does_not_fit_is_refused_and_what_is_damaged_is_not_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("models");
        let key = Arc::new(StorageKey::random().unwrap());
        let shelf = Shelf::open(&path, &[task(3)], key.clone()).unwrap();
        let refusal = shelf.publish(&task(4), &wanted(None), ONE).unwrap_err();
        assert_eq!(refusal.obstacle, Obstacle::Model);
        assert!(refusal.explanation.contains("tells 3 classes apart, task digits has 5 and 4"), "{refusal}");
        let no_model = ToPublish { file: b"no model".to_vec(), ..wanted(None) };
        assert_eq!(shelf.publish(&task(3), &no_model, ONE).unwrap_err().obstacle, Obstacle::Model);
        let (entry, _) = shelf.publish(&task(3), &wanted(None), ONE).unwrap();
        let refusal = shelf.publish(&task(4), &wanted(None), ONE).unwrap_err();
        assert_eq!((refusal.obstacle, shelf.all().len()), (Obstacle::Model, 1), "what was in force stays");
        std::fs::write(shelf.plan_file(entry.model, Mode::Batch), b"no plan").unwrap();
        let again = Shelf::open(&path, &[task(3)], key.clone()).unwrap();
        let modes: Vec<Mode> = again.of("digits").unwrap().plans.iter().map(|live| live.plan.mode).collect();
        assert_eq!(modes, [Mode::Single]);
        // The roster has changed the range since.
        let wider = HomomorphicTask { input_abs_max: 3.0, ..task(3) };
        assert!(
            Shelf::open(&path, std::slice::from_ref(&wider), key)
                .unwrap()
                .of("digits")
                .unwrap()
                .plans
                .is_empty()
        );
        let told = fits(&wider, &again.of("digits").unwrap().plans[0].plan).unwrap_err();
        assert!(told.contains("inputs from 0 to 2, task digits has 0 to 3"), "{told}");
        let other = Shelf::open(&path, &[task(3)], Arc::new(StorageKey::random().unwrap())).unwrap();
        let live = other.of("digits").unwrap();
        let refusal = other.evaluator(&task(3), entry.model, &live.plans[0]).unwrap_err();
        assert_eq!(refusal.obstacle, Obstacle::Local, "sealed with another key");
        std::fs::write(path.join("published.json"), "{").unwrap();
        assert!(Shelf::open(&path, &[], Arc::new(StorageKey::random().unwrap())).is_err());
    }
}
