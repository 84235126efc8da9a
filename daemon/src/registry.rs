//! What a compute party holds of each owner's models: their record, its share of the weights, the opened
//! masked weights.
//!
//! ```text
//!   register        put_share       pin_opening       put_opened
//!  ──────────▶ Announced ───▶ Shared ──────────▶ Pinned ────────▶ Ready
//!                  └────────────┴──────────────────┴────────────────┴──── withdraw ──▶ (gone)
//! ```
//!
//! An owner has one model in a task, or one for each part of its patients. Those are one registration with one
//! state: all of them are ready, or none.
//!
//! The masked weights W - A of a mask A are opened for one W only: two openings under one mask give the
//! difference of two models away. [`Registry::pin_opening`] is durable before our side of the opening is
//! sent, refuses every other W, and outlives the withdrawal of the model.
//!
//! Shares and opened weights are sealed files of their own beside the database, since a database keeps
//! the space of what was deleted from it. A file is written before the record says that it is there.

mod error;
mod mask;
mod record;
mod tables;

pub use error::RegistryError;
pub use mask::{MaskSeeds, MaskStore};
pub use record::{Announcement, Encoding, MaskId, ModelId, ModelRecord, ModelState, Shard};

use crate::vault::{self, Kind, StorageKey, Store, hex};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tables::{Tables, Trouble};
use zeroize::Zeroizing;

/// Most registrations that a registry holds.
pub const MODELS_MAX: u64 = 4096;
/// Most values in one share or opening.
pub const SHARE_VALUES_MAX: usize = 1 << 26;

const KIND: Kind = Kind { name: "consilium model registry", version: 2 };
const DATABASE_FILE: &str = "registry.redb";
const VALUE_BYTES: usize = size_of::<u64>();

/// The registry of one compute party, open. All methods block on the disk.
pub struct Registry {
    store: Store,
    directory: PathBuf,
    key: Arc<StorageKey>,
}

/// Which of a model's two files.
#[derive(Clone, Copy)]
enum Part {
    Share,
    Opened,
}

impl Registry {
    /// Creates an empty registry in a directory of its own, which may exist already.
    ///
    /// # Errors
    /// [`RegistryError::Store`] when there is a registry already or it cannot be written.
    pub fn create(directory: &Path, key: Arc<StorageKey>) -> Result<Self, RegistryError> {
        vault::private_directory(directory)?;
        let fill = |transaction: &redb::WriteTransaction| Tables::open(transaction).map(|_| ());
        let store = Store::create(&directory.join(DATABASE_FILE), KIND, fill)?;
        Ok(Self { store, directory: directory.to_owned(), key })
    }

    /// Opens an existing registry and finishes withdrawals that a crash cut short. A missing one is an
    /// error, since an empty registry would have forgotten which masks were opened.
    ///
    /// # Errors
    /// [`RegistryError::Store`], [`RegistryError::Vault`].
    pub fn open(directory: &Path, key: Arc<StorageKey>) -> Result<Self, RegistryError> {
        let store = Store::open(&directory.join(DATABASE_FILE), KIND)?;
        vault::sweep_unfinished(directory)?;
        let registry = Self { store, directory: directory.to_owned(), key };
        for model in registry.transact(|tables| tables.leaving())? {
            registry.erase(model)?;
        }
        Ok(registry)
    }

    /// Records a model whose share is to come. The same announcement again changes nothing.
    ///
    /// # Errors
    /// [`RegistryError::Differs`] when the id was announced with other content,
    /// [`RegistryError::MaskTaken`] when the mask belongs to another model, [`RegistryError::Name`],
    /// [`RegistryError::TooMany`].
    pub fn register(&self, announced: Announcement) -> Result<ModelRecord, RegistryError> {
        announced.check()?;
        self.transact(|tables| {
            let model = announced.model;
            if let Some(record) = tables.find(model)? {
                let same = record.announced == announced;
                return if same { Ok(record) } else { Err(RegistryError::Differs { model }.into()) };
            }
            tables.room()?;
            announced.shards.iter().try_for_each(|shard| tables.bind_mask(shard.mask, model))?;
            let record = ModelRecord { announced, state: ModelState::Announced };
            tables.put(&record)?;
            Ok(record)
        })
    }

    /// Stores our share of the weights. Until the opening is pinned it may be stored again.
    ///
    /// # Errors
    /// [`RegistryError::State`] once pinned, [`RegistryError::Length`], [`RegistryError::Unknown`],
    /// [`RegistryError::Vault`].
    pub fn put_share(&self, model: ModelId, share: &[u64]) -> Result<(), RegistryError> {
        self.put(model, Part::Share, share, &[ModelState::Announced, ModelState::Shared], ModelState::Shared)
    }

    /// Our share of the weights.
    ///
    /// # Errors
    /// [`RegistryError::State`] when it was not stored yet, [`RegistryError::Unknown`],
    /// [`RegistryError::Vault`] when the file is missing or damaged.
    pub fn share(&self, model: ModelId) -> Result<Zeroizing<Vec<u64>>, RegistryError> {
        self.take(model, Part::Share, &[ModelState::Shared, ModelState::Pinned, ModelState::Ready])
    }

    /// Binds the mask of each model to the one weight share that will ever be opened under it, given by its
    /// digest. When this returns, the bindings are on the disk and our side of the opening may be sent. The
    /// same again is fine.
    ///
    /// # Errors
    /// [`RegistryError::OtherOpening`] when a mask was pinned for other weights,
    /// [`RegistryError::MaskTaken`] when these are not the masks of this registration,
    /// [`RegistryError::State`] before the share is stored, [`RegistryError::Unknown`]. Then nothing is pinned.
    pub fn pin_opening(&self, model: ModelId, digests: &[(MaskId, [u8; 32])]) -> Result<(), RegistryError> {
        self.transact(|tables| {
            let mut record = tables.known(model)?;
            let shards = &record.announced.shards;
            if let Some((_, (mask, _))) =
                shards.iter().zip(digests).find(|(own, (mask, _))| own.mask != *mask)
            {
                return Err(RegistryError::MaskTaken { mask: *mask }.into());
            }
            if digests.len() != shards.len() {
                return Err(RegistryError::Shards { model, count: digests.len() }.into());
            }
            if record.state == ModelState::Announced {
                return Err(RegistryError::State { model, state: record.state, action: "pin" }.into());
            }
            digests.iter().try_for_each(|(mask, digest)| tables.pin(*mask, model, *digest))?;
            if record.state == ModelState::Shared {
                record.state = ModelState::Pinned;
                tables.put(&record)?;
            }
            Ok(())
        })
    }

    /// Stores the opened masked weights of a pinned model, which is ready to answer from then on.
    ///
    /// # Errors
    /// [`RegistryError::State`] before the opening is pinned or when the model is ready already,
    /// [`RegistryError::Length`], [`RegistryError::Unknown`], [`RegistryError::Vault`].
    pub fn put_opened(&self, model: ModelId, opened: &[u64]) -> Result<(), RegistryError> {
        self.put(model, Part::Opened, opened, &[ModelState::Pinned], ModelState::Ready)
    }

    /// The opened masked weights.
    ///
    /// # Errors
    /// [`RegistryError::State`] before the model is ready, [`RegistryError::Unknown`],
    /// [`RegistryError::Vault`] when the file is missing or damaged.
    pub fn opened(&self, model: ModelId) -> Result<Zeroizing<Vec<u64>>, RegistryError> {
        self.take(model, Part::Opened, &[ModelState::Ready])
    }

    /// One model.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`].
    pub fn model(&self, model: ModelId) -> Result<ModelRecord, RegistryError> {
        self.transact(|tables| tables.known(model))
    }

    /// All models, by id.
    ///
    /// # Errors
    /// [`RegistryError::Store`], [`RegistryError::Record`].
    pub fn list(&self) -> Result<Vec<ModelRecord>, RegistryError> {
        self.transact(|tables| tables.list())
    }

    /// Removes a model and its files. What its mask was opened for stays on record, and that the other party
    /// is to be told.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`], [`RegistryError::Vault`]; opening the registry again tries the rest.
    pub fn withdraw(&self, model: ModelId) -> Result<(), RegistryError> {
        self.transact(|tables| {
            tables.known(model)?;
            tables.leave(model)
        })?;
        self.erase(model)
    }

    /// Models that were withdrawn here and that the other party was not told of.
    ///
    /// # Errors
    /// [`RegistryError::Store`].
    pub fn untold(&self) -> Result<Vec<ModelId>, RegistryError> {
        self.transact(|tables| tables.untold())
    }

    /// The other party knows that a model is withdrawn.
    ///
    /// # Errors
    /// [`RegistryError::Store`].
    pub fn told(&self, model: ModelId) -> Result<(), RegistryError> {
        self.transact(|tables| tables.told(model))
    }

    fn put(
        &self,
        model: ModelId,
        part: Part,
        values: &[u64],
        from: &[ModelState],
        to: ModelState,
    ) -> Result<(), RegistryError> {
        if values.is_empty() || values.len() > SHARE_VALUES_MAX {
            return Err(RegistryError::Length { model, found: values.len() });
        }
        // The transaction is open while the file is written, so that no other step comes between.
        self.transact(|tables| {
            let mut record = tables.known(model)?;
            if !from.contains(&record.state) {
                let action = part.putting();
                return Err(RegistryError::State { model, state: record.state, action }.into());
            }
            let mut bytes = Zeroizing::new(Vec::with_capacity(values.len() * VALUE_BYTES));
            values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
            vault::write_sealed(&self.key, &self.file(model, part), &context(&record, part), &bytes)?;
            record.state = to;
            tables.put(&record)?;
            Ok(())
        })
    }

    fn take(
        &self,
        model: ModelId,
        part: Part,
        from: &[ModelState],
    ) -> Result<Zeroizing<Vec<u64>>, RegistryError> {
        let record = self.model(model)?;
        if !from.contains(&record.state) {
            let action = part.taking();
            return Err(RegistryError::State { model, state: record.state, action });
        }
        let limit = u64::try_from(SHARE_VALUES_MAX * VALUE_BYTES).expect("half a gibibyte fits 64 bits");
        let bytes = vault::read_sealed(&self.key, &self.file(model, part), &context(&record, part), limit)?;
        let (values, rest) = bytes.as_chunks::<VALUE_BYTES>();
        if !rest.is_empty() {
            return Err(RegistryError::Length { model, found: bytes.len() / VALUE_BYTES });
        }
        Ok(Zeroizing::new(values.iter().map(|value| u64::from_le_bytes(*value)).collect()))
    }

    fn erase(&self, model: ModelId) -> Result<(), RegistryError> {
        for part in [Part::Share, Part::Opened] {
            vault::remove_durably(&self.file(model, part))?;
        }
        self.transact(|tables| tables.left(model))
    }

    fn file(&self, model: ModelId, part: Part) -> PathBuf {
        self.directory.join(format!("{}.{}", hex::encode(&model.0), part.name()))
    }

    fn transact<T>(
        &self,
        work: impl FnOnce(&mut Tables<'_>) -> Result<T, Trouble>,
    ) -> Result<T, RegistryError> {
        let transaction = self.store.begin()?;
        let (value, written) = {
            let mut tables = Tables::open(&transaction).map_err(|error| self.store.failed("read", error))?;
            let value = work(&mut tables).map_err(|trouble| match trouble {
                Trouble::Refused(refusal) => refusal,
                Trouble::Storage(error) => self.store.failed("write", error).into(),
            })?;
            (value, tables.written())
        };
        if written {
            self.store.commit(transaction)?;
        }
        Ok(value)
    }
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Share => "share",
            Self::Opened => "opened",
        }
    }

    fn putting(self) -> &'static str {
        match self {
            Self::Share => "store the share of",
            Self::Opened => "store the opening of",
        }
    }

    fn taking(self) -> &'static str {
        match self {
            Self::Share => "read the share of",
            Self::Opened => "read the opening of",
        }
    }
}

/// Binds a file to its registration, the version of it and its masks, so that files cannot change places.
fn context(record: &ModelRecord, part: Part) -> String {
    let Announcement { model, version, shards, .. } = &record.announced;
    let masks: String = shards.iter().map(|shard| format!(" {}", shard.mask)).collect();
    format!("registry {} {model} version {version} mask{masks}", part.name())
}

#[cfg(test)]
mod tests {
    use super::record::tests::announcement;
    use super::*;
    use crate::vault::VaultError;
    use std::fs;

    struct Bench {
        directory: tempfile::TempDir,
        key: Arc<StorageKey>,
    }

    impl Bench {
        fn new() -> (Self, Registry) {
            let bench = Self {
                directory: tempfile::tempdir().unwrap(),
                key: Arc::new(StorageKey::random().unwrap()),
            };
            let registry = Registry::create(&bench.path(), Arc::clone(&bench.key)).unwrap();
            (bench, registry)
        }

        fn path(&self) -> PathBuf {
            self.directory.path().join("models")
        }

        fn open(&self) -> Result<Registry, RegistryError> {
            Registry::open(&self.path(), Arc::clone(&self.key))
        }
    }

    fn ready(registry: &Registry, n: u8) -> ModelId {
        let model = registry.register(announcement(n)).unwrap().announced.model;
        registry.put_share(model, &[1, u64::MAX, 3]).unwrap();
        registry.pin_opening(model, &[(MaskId([n; 16]), [n; 32])]).unwrap();
        registry.put_opened(model, &[7, 8]).unwrap();
        model
    }

    #[test]
    fn a_model_is_there_after_reopening() {
        let (bench, registry) = Bench::new();
        let model = ready(&registry, 1);
        assert!(matches!(bench.open(), Err(RegistryError::Store(_))), "one process at a time");
        drop(registry);
        let registry = bench.open().unwrap();
        assert_eq!(registry.share(model).unwrap().as_slice(), [1, u64::MAX, 3]);
        assert_eq!(registry.opened(model).unwrap().as_slice(), [7, 8]);
        let record = ModelRecord { announced: announcement(1), state: ModelState::Ready };
        assert_eq!(registry.list().unwrap(), [record]);
    }

    #[test]
    fn steps_are_taken_in_order() {
        let (_bench, registry) = Bench::new();
        let model = registry.register(announcement(1)).unwrap().announced.model;
        let state = |error: RegistryError| matches!(error, RegistryError::State { .. });
        assert!(state(registry.share(model).unwrap_err()));
        let digests = [(MaskId([1; 16]), [0; 32])];
        assert!(state(registry.pin_opening(model, &digests).unwrap_err()));
        assert!(state(registry.put_opened(model, &[1]).unwrap_err()));
        registry.put_share(model, &[1]).unwrap();
        registry.put_share(model, &[2]).unwrap();
        assert!(state(registry.put_opened(model, &[1]).unwrap_err()), "nothing is opened before the pin");
        registry.pin_opening(model, &digests).unwrap();
        assert!(state(registry.put_share(model, &[3]).unwrap_err()), "the pinned share stays");
        assert_eq!(registry.share(model).unwrap().as_slice(), [2]);
        assert!(state(registry.opened(model).unwrap_err()));
        registry.put_opened(model, &[1]).unwrap();
        assert!(state(registry.put_opened(model, &[2]).unwrap_err()));
    }

    #[test]
    fn a_mask_is_pinned_for_one_weight_share_for_ever() {
        let (bench, registry) = Bench::new();
        let model = ready(&registry, 1);
        let mask = MaskId([1; 16]);
        registry.pin_opening(model, &[(mask, [1; 32])]).unwrap();
        let other = |error| matches!(error, RegistryError::OtherOpening { .. });
        assert!(other(registry.pin_opening(model, &[(mask, [2; 32])]).unwrap_err()));
        registry.withdraw(model).unwrap();
        drop(registry);
        let registry = bench.open().unwrap();

        let mut thief = announcement(2);
        thief.shards[0].mask = mask;
        assert!(matches!(registry.register(thief), Err(RegistryError::MaskTaken { .. })));
        registry.register(announcement(1)).unwrap();
        registry.put_share(model, &[9]).unwrap();
        assert!(other(registry.pin_opening(model, &[(mask, [2; 32])]).unwrap_err()));
        assert_eq!(registry.model(model).unwrap().state, ModelState::Shared);
        registry.pin_opening(model, &[(mask, [1; 32])]).unwrap();
    }

    #[test]
    fn a_mask_of_another_model_cannot_be_pinned() {
        let (_bench, registry) = Bench::new();
        let (one, two) = (announcement(1), announcement(2));
        for announced in [&one, &two] {
            registry.register(announced.clone()).unwrap();
            registry.put_share(announced.model, &[1]).unwrap();
        }
        let error = registry.pin_opening(one.model, &[(two.shards[0].mask, [0; 32])]).unwrap_err();
        assert!(matches!(error, RegistryError::MaskTaken { .. }));
    }

    #[test]
    fn the_models_of_an_owner_are_pinned_together_or_not_at_all() {
        let (bench, registry) = Bench::new();
        let mut announced = announcement(1);
        let network = announced.shards[0].network.clone();
        announced.shards.push(Shard { network, mask: MaskId([2; 16]) });
        let model = registry.register(announced.clone()).unwrap().announced.model;
        assert!(matches!(registry.register(announcement(2)), Err(RegistryError::MaskTaken { .. })));
        registry.put_share(model, &[1, 2]).unwrap();
        let [first, second] = [1, 2].map(|n| (MaskId([n; 16]), [n; 32]));
        for wrong in [&[first][..], &[second, first], &[first, first], &[first, second, first], &[]] {
            let error = registry.pin_opening(model, wrong).unwrap_err();
            assert!(
                matches!(error, RegistryError::MaskTaken { .. } | RegistryError::Shards { .. }),
                "{error}"
            );
            assert_eq!(registry.model(model).unwrap().state, ModelState::Shared);
        }
        registry.pin_opening(model, &[first, second]).unwrap();
        let other = registry.pin_opening(model, &[first, (second.0, [9; 32])]).unwrap_err();
        assert!(matches!(other, RegistryError::OtherOpening { mask, .. } if mask == second.0));
        drop(registry);
        let registry = bench.open().unwrap();
        assert_eq!(registry.list().unwrap(), [ModelRecord { announced, state: ModelState::Pinned }]);
        // None of their masks serves another registration, also when they are gone.
        registry.withdraw(model).unwrap();
        assert!(matches!(registry.register(announcement(2)), Err(RegistryError::MaskTaken { .. })));
    }

    #[test]
    fn an_announcement_may_be_repeated_but_not_changed() {
        let (_bench, registry) = Bench::new();
        let model = ready(&registry, 1);
        assert_eq!(registry.register(announcement(1)).unwrap().state, ModelState::Ready);
        let mut changed = announcement(1);
        changed.version += 1;
        assert!(matches!(registry.register(changed), Err(RegistryError::Differs { model: m }) if m == model));
    }

    #[test]
    fn withdrawing_leaves_no_file_even_when_cut_short() {
        let (bench, registry) = Bench::new();
        let (gone, half) = (ready(&registry, 1), ready(&registry, 2));
        registry.withdraw(gone).unwrap();
        assert!(matches!(registry.share(gone), Err(RegistryError::Unknown { .. })));
        assert!(matches!(registry.withdraw(gone), Err(RegistryError::Unknown { .. })));
        registry.transact(|tables| tables.leave(half)).unwrap();
        drop(registry);
        let registry = bench.open().unwrap();
        assert!(registry.list().unwrap().is_empty());
        let files: Vec<_> = fs::read_dir(bench.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(files, [DATABASE_FILE]);
    }

    #[test]
    fn files_that_are_damaged_or_changed_places_are_refused_by_name() {
        let (_bench, registry) = Bench::new();
        let (one, two) = (ready(&registry, 1), ready(&registry, 2));
        fs::copy(registry.file(one, Part::Share), registry.file(two, Part::Share)).unwrap();
        fs::copy(registry.file(one, Part::Share), registry.file(two, Part::Opened)).unwrap();
        for error in [registry.share(two).unwrap_err(), registry.opened(two).unwrap_err()] {
            assert!(matches!(error, RegistryError::Vault(VaultError::Damaged { .. })));
            assert!(error.to_string().contains(&hex::encode(&two.0)), "{error}");
        }
        fs::remove_file(registry.file(one, Part::Share)).unwrap();
        assert!(matches!(registry.share(one), Err(RegistryError::Vault(VaultError::Io { .. }))));
    }

    #[test]
    fn shares_of_no_or_too_many_values_are_refused() {
        let (_bench, registry) = Bench::new();
        let model = registry.register(announcement(1)).unwrap().announced.model;
        assert!(matches!(registry.put_share(model, &[]), Err(RegistryError::Length { found: 0, .. })));
        assert_eq!(registry.model(model).unwrap().state, ModelState::Announced);
    }
}
