//! Seeds of weight masks: both parties' at a dealer, or a compute party's own where there is none.
//!
//! A mask lives as long as the model it hides, over many sessions, so it must survive a restart of
//! whoever keeps it. Whoever has both seeds and the opened weights has the model: the seeds are stored
//! sealed.

use super::{MaskId, RegistryError};
use crate::vault::{Kind, StorageKey, Store, VaultError};
use redb::{ReadableTable, TableDefinition};
use ring::rand::{SecureRandom, SystemRandom};
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

const KIND: Kind = Kind { name: "consilium mask store", version: 1 };
const SEED_BYTES: usize = 16;
const MASKS: TableDefinition<'static, &'static [u8; 16], &'static [u8]> = TableDefinition::new("masks");
/// A compute party's own seeds.
const OWN: TableDefinition<'static, &'static [u8; 16], &'static [u8]> = TableDefinition::new("own masks");
/// How much of its life a compute party's own part of a mask has served, out of [`LIFE`]. How many bundles that
/// is depends on how many are made at once.
const WORN: TableDefinition<'static, &'static [u8; 16], u64> = TableDefinition::new("worn masks");
const LIFE: u64 = 1 << 62;

/// The two seeds of one mask, wiped when dropped and never printed.
pub struct MaskSeeds {
    /// For party zero.
    pub zero: Zeroizing<[u8; SEED_BYTES]>,
    /// For party one.
    pub one: Zeroizing<[u8; SEED_BYTES]>,
}

/// The masks that a dealer or a compute party keeps, open. All methods block on the disk.
pub struct MaskStore {
    store: Store,
    key: Arc<StorageKey>,
}

impl MaskStore {
    /// Creates an empty store.
    ///
    /// # Errors
    /// [`RegistryError::Store`] when the file exists already or cannot be written.
    pub fn create(path: &Path, key: Arc<StorageKey>) -> Result<Self, RegistryError> {
        let store = Store::create(path, KIND, |transaction| {
            transaction.open_table(MASKS)?;
            transaction.open_table(OWN)?;
            transaction.open_table(WORN)?;
            Ok(())
        })?;
        Ok(Self { store, key })
    }

    /// Opens an existing store.
    ///
    /// # Errors
    /// [`RegistryError::Store`].
    pub fn open(path: &Path, key: Arc<StorageKey>) -> Result<Self, RegistryError> {
        Ok(Self { store: Store::open(path, KIND)?, key })
    }

    /// Draws a fresh mask for the models of a pair and stores it, durably.
    ///
    /// # Errors
    /// [`RegistryError::Store`], [`RegistryError::Vault`].
    pub fn draw(&self, pair: &str) -> Result<MaskId, RegistryError> {
        let mut mask = MaskId([0; 16]);
        let mut seeds = Zeroizing::new([0; 2 * SEED_BYTES]);
        let random = SystemRandom::new();
        random.fill(&mut mask.0).map_err(|_| VaultError::Random)?;
        random.fill(seeds.as_mut_slice()).map_err(|_| VaultError::Random)?;
        let sealed = self.key.seal(&context(mask, pair), seeds.as_slice())?;
        self.write(MASKS, |table| table.insert(&mask.0, sealed.as_slice()).map(|_| ()))?;
        Ok(mask)
    }

    /// This party's own seed of a mask, drawn and stored durably when it is first asked for. The other
    /// party draws its own: the mask is fresh if either is honest.
    ///
    /// # Errors
    /// [`RegistryError::Store`], [`RegistryError::Vault`].
    pub fn own(&self, mask: MaskId) -> Result<Zeroizing<[u8; SEED_BYTES]>, RegistryError> {
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        SystemRandom::new().fill(seed.as_mut_slice()).map_err(|_| VaultError::Random)?;
        let sealed = self.key.seal(&own_context(mask), seed.as_slice())?;
        let mut held: Option<Vec<u8>> = None;
        self.write(OWN, |table| {
            held = table.get(&mask.0)?.map(|row| row.value().to_vec());
            match held {
                None => table.insert(&mask.0, sealed.as_slice()).map(|_| ()),
                Some(_) => Ok(()),
            }
        })?;
        held.map_or(Ok(seed), |held| self.open_own(mask, &held))
    }

    fn open_own(&self, mask: MaskId, sealed: &[u8]) -> Result<Zeroizing<[u8; SEED_BYTES]>, RegistryError> {
        let opened = self.key.open(&own_context(mask), sealed)?;
        let damaged = |_| VaultError::Sealed { context: own_context(mask) }.into();
        opened.as_slice().try_into().map(Zeroizing::new).map_err(damaged)
    }

    /// The seeds of a mask that was drawn for this pair. To other pairs it is sealed: whoever sits in two of
    /// them would otherwise get both seeds.
    ///
    /// # Errors
    /// [`RegistryError::UnknownMask`], [`RegistryError::Vault`].
    pub fn get(&self, mask: MaskId, pair: &str) -> Result<MaskSeeds, RegistryError> {
        let failed = |error: redb::Error| self.store.failed("read", error);
        let table = self.store.read()?.open_table(MASKS).map_err(|error| failed(error.into()))?;
        let row = table.get(&mask.0).map_err(|error| failed(error.into()))?;
        let sealed = row.ok_or(RegistryError::UnknownMask { mask })?;
        let seeds = self.key.open(&context(mask, pair), sealed.value())?;
        let (zero, one) = seeds.split_at_checked(SEED_BYTES).ok_or(RegistryError::UnknownMask { mask })?;
        let seed = |bytes: &[u8]| bytes.try_into().map(Zeroizing::new);
        match (seed(zero), seed(one)) {
            (Ok(zero), Ok(one)) => Ok(MaskSeeds { zero, one }),
            _ => Err(VaultError::Sealed { context: context(mask, pair) }.into()),
        }
    }

    /// This party's own seeds of masks, after recording durably that each serves `bundles` more, each of which
    /// wears it by one part in `most`. A seed that was lost is not drawn anew: the opened weights are under
    /// the old one.
    ///
    /// # Errors
    /// [`RegistryError::Worn`], [`RegistryError::UnknownMask`], [`RegistryError::Store`],
    /// [`RegistryError::Vault`]. Then none is worn.
    pub fn wear(
        &self,
        masks: &[MaskId],
        bundles: u64,
        most: u64,
    ) -> Result<Vec<Zeroizing<[u8; SEED_BYTES]>>, RegistryError> {
        let seeds = masks.iter().map(|mask| self.held(*mask)).collect::<Result<_, _>>()?;
        let part = (u128::from(bundles) * u128::from(LIFE)).div_ceil(u128::from(most.max(1)));
        let mut worn_out = None;
        self.write(WORN, |table| {
            let mut after = Vec::with_capacity(masks.len());
            for mask in masks {
                let worn = table.get(&mask.0)?.map_or(0, |row| row.value());
                match u64::try_from(u128::from(worn) + part).ok().filter(|after| *after <= LIFE) {
                    Some(worn) => after.push(worn),
                    None => worn_out = Some(*mask),
                }
            }
            if worn_out.is_none() {
                for (mask, worn) in masks.iter().zip(after) {
                    table.insert(&mask.0, worn)?;
                }
            }
            Ok(())
        })?;
        worn_out.map_or(Ok(seeds), |mask| Err(RegistryError::Worn { mask, most }))
    }

    /// This party's own seed of a mask that it drew before.
    fn held(&self, mask: MaskId) -> Result<Zeroizing<[u8; SEED_BYTES]>, RegistryError> {
        let failed = |error: redb::Error| self.store.failed("read", error);
        let table = self.store.read()?.open_table(OWN).map_err(|error| failed(error.into()))?;
        let row = table.get(&mask.0).map_err(|error| failed(error.into()))?;
        self.open_own(mask, row.ok_or(RegistryError::UnknownMask { mask })?.value())
    }

    /// Forgets a mask, durably; a mask that is not there is fine.
    ///
    /// # Errors
    /// [`RegistryError::Store`].
    pub fn delete(&self, mask: MaskId) -> Result<(), RegistryError> {
        self.write(MASKS, |table| table.remove(&mask.0).map(|_| ()))?;
        self.write(OWN, |table| table.remove(&mask.0).map(|_| ()))?;
        self.write(WORN, |table| table.remove(&mask.0).map(|_| ()))
    }

    fn write<V: redb::Value + 'static>(
        &self,
        table: TableDefinition<'static, &'static [u8; 16], V>,
        work: impl FnOnce(&mut redb::Table<'_, &'static [u8; 16], V>) -> Result<(), redb::StorageError>,
    ) -> Result<(), RegistryError> {
        let transaction = self.store.begin()?;
        let opened = transaction.open_table(table).map_err(redb::Error::from);
        let worked = opened.and_then(|mut table| Ok(work(&mut table)?));
        worked.map_err(|error| self.store.failed("write", error))?;
        Ok(self.store.commit(transaction)?)
    }
}

fn context(mask: MaskId, pair: &str) -> String {
    format!("mask seeds {mask} of pair {pair}")
}

fn own_context(mask: MaskId) -> String {
    format!("own mask seed {mask}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_survive_until_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("masks.redb");
        let key = Arc::new(StorageKey::random().unwrap());
        let masks = MaskStore::create(&path, Arc::clone(&key)).unwrap();
        let (one, two) = (masks.draw("main").unwrap(), masks.draw("main").unwrap());
        let seeds = masks.get(one, "main").unwrap();
        assert_ne!(*seeds.zero, *seeds.one);
        assert_ne!(*seeds.zero, *masks.get(two, "main").unwrap().zero);
        drop(masks);

        let masks = MaskStore::open(&path, key).unwrap();
        assert_eq!(*masks.get(one, "main").unwrap().zero, *seeds.zero);
        assert_eq!(*masks.get(one, "main").unwrap().one, *seeds.one);
        masks.delete(one).unwrap();
        masks.delete(one).unwrap();
        assert!(matches!(masks.get(one, "main"), Err(RegistryError::UnknownMask { .. })));
        masks.get(two, "main").unwrap();
    }

    #[test]
    fn an_own_seed_is_drawn_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("masks.redb");
        let key = Arc::new(StorageKey::random().unwrap());
        let masks = MaskStore::create(&path, Arc::clone(&key)).unwrap();
        let (first, other) = (masks.own(MaskId([1; 16])).unwrap(), masks.own(MaskId([2; 16])).unwrap());
        assert_ne!(*first, *other);
        drop(masks);

        let masks = MaskStore::open(&path, key).unwrap();
        assert_eq!(*masks.own(MaskId([1; 16])).unwrap(), *first);
        let [one, two, unknown] = [1, 2, 3].map(|n| MaskId([n; 16]));
        assert!(matches!(masks.wear(&[one, unknown], 1, 1), Err(RegistryError::UnknownMask { .. })));
        assert_eq!(*masks.wear(&[one], 2, 4).unwrap()[0], *first);
        let worn = masks.wear(&[two, one], 11, 20);
        assert!(matches!(worn, Err(RegistryError::Worn { most: 20, mask }) if mask == one), "half is left");
        let both = masks.wear(&[two, one], 10, 20).unwrap();
        assert_eq!((*both[0], *both[1]), (*other, *first), "in the order asked for");
        assert!(matches!(masks.wear(&[one], 1, u64::MAX), Err(RegistryError::Worn { .. })));
        masks.wear(&[two], 10, 20).unwrap();
        masks.delete(MaskId([1; 16])).unwrap();
        assert_ne!(*masks.own(MaskId([1; 16])).unwrap(), *first);
    }

    #[test]
    fn seeds_need_the_key_and_their_own_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("masks.redb");
        let masks = MaskStore::create(&path, Arc::new(StorageKey::random().unwrap())).unwrap();
        let (one, two) = (masks.draw("main").unwrap(), masks.draw("main").unwrap());
        masks
            .write(MASKS, |table| {
                let row = table.get(&one.0)?.map(|row| row.value().to_vec()).unwrap();
                table.insert(&two.0, row.as_slice()).map(|_| ())
            })
            .unwrap();
        assert!(matches!(masks.get(two, "main"), Err(RegistryError::Vault(VaultError::Sealed { .. }))));
        assert!(matches!(masks.get(one, "other"), Err(RegistryError::Vault(VaultError::Sealed { .. }))));
        drop(masks);
        let masks = MaskStore::open(&path, Arc::new(StorageKey::random().unwrap())).unwrap();
        assert!(masks.get(one, "main").is_err());
    }
}
