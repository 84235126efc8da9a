//! The tables of the registry, open for one exclusive transaction.

use super::{MODELS_MAX, MaskId, ModelId, ModelRecord, RegistryError};
use crate::vault::VaultError;
use redb::{ReadableTable, ReadableTableMetadata, Table, TableDefinition, WriteTransaction};

type Id = &'static [u8; 16];
/// The model that a mask belongs to, and the digest of the weight share it is opened for.
type Binding = (Id, Option<&'static [u8; 32]>);

const MODELS: TableDefinition<'static, Id, &'static [u8]> = TableDefinition::new("models");
/// Rows are never removed.
const MASKS: TableDefinition<'static, Id, Binding> = TableDefinition::new("masks");
/// Models whose files are being deleted.
const LEAVING: TableDefinition<'static, Id, ()> = TableDefinition::new("leaving");
/// Models that were withdrawn here and that the other party may still hold.
const UNTOLD: TableDefinition<'static, Id, ()> = TableDefinition::new("untold");

/// Why work in a transaction stopped; nothing of it is kept.
pub(super) enum Trouble {
    Refused(RegistryError),
    Storage(redb::Error),
}

impl From<RegistryError> for Trouble {
    fn from(refusal: RegistryError) -> Self {
        Self::Refused(refusal)
    }
}

impl From<VaultError> for Trouble {
    fn from(error: VaultError) -> Self {
        Self::Refused(error.into())
    }
}

impl From<redb::StorageError> for Trouble {
    fn from(error: redb::StorageError) -> Self {
        Self::Storage(error.into())
    }
}

pub(super) struct Tables<'t> {
    models: Table<'t, Id, &'static [u8]>,
    masks: Table<'t, Id, Binding>,
    leaving: Table<'t, Id, ()>,
    untold: Table<'t, Id, ()>,
    written: bool,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            models: transaction.open_table(MODELS)?,
            masks: transaction.open_table(MASKS)?,
            leaving: transaction.open_table(LEAVING)?,
            untold: transaction.open_table(UNTOLD)?,
            written: false,
        })
    }

    pub(super) fn written(&self) -> bool {
        self.written
    }

    pub(super) fn find(&self, model: ModelId) -> Result<Option<ModelRecord>, Trouble> {
        let Some(row) = self.models.get(&model.0)? else { return Ok(None) };
        Ok(Some(ModelRecord::decode(model, row.value())?))
    }

    pub(super) fn known(&self, model: ModelId) -> Result<ModelRecord, Trouble> {
        Ok(self.find(model)?.ok_or(RegistryError::Unknown { model })?)
    }

    pub(super) fn put(&mut self, record: &ModelRecord) -> Result<(), Trouble> {
        self.models.insert(&record.announced.model.0, record.encode().as_slice())?;
        self.written = true;
        Ok(())
    }

    pub(super) fn list(&self) -> Result<Vec<ModelRecord>, Trouble> {
        let mut records = Vec::new();
        for row in self.models.iter()? {
            let (model, record) = row?;
            records.push(ModelRecord::decode(ModelId(*model.value()), record.value())?);
        }
        Ok(records)
    }

    pub(super) fn room(&self) -> Result<(), Trouble> {
        if self.models.len()? >= MODELS_MAX {
            return Err(RegistryError::TooMany.into());
        }
        Ok(())
    }

    pub(super) fn bind_mask(&mut self, mask: MaskId, model: ModelId) -> Result<(), Trouble> {
        if let Some(row) = self.masks.get(&mask.0)? {
            let same = *row.value().0 == model.0;
            return if same { Ok(()) } else { Err(RegistryError::MaskTaken { mask }.into()) };
        }
        self.masks.insert(&mask.0, (&model.0, None))?;
        self.written = true;
        Ok(())
    }

    pub(super) fn pin(&mut self, mask: MaskId, model: ModelId, digest: [u8; 32]) -> Result<(), Trouble> {
        let pinned = match self.masks.get(&mask.0)? {
            Some(row) if *row.value().0 == model.0 => row.value().1.copied(),
            _ => return Err(RegistryError::MaskTaken { mask }.into()),
        };
        match pinned {
            Some(pinned) if pinned == digest => Ok(()),
            Some(_) => Err(RegistryError::OtherOpening { model, mask }.into()),
            None => {
                self.masks.insert(&mask.0, (&model.0, Some(&digest)))?;
                self.written = true;
                Ok(())
            }
        }
    }

    pub(super) fn leaving(&self) -> Result<Vec<ModelId>, Trouble> {
        let mut models = Vec::new();
        for row in self.leaving.iter()? {
            models.push(ModelId(*row?.0.value()));
        }
        Ok(models)
    }

    /// Takes the record away and remembers that the files are still there.
    pub(super) fn leave(&mut self, model: ModelId) -> Result<(), Trouble> {
        self.models.remove(&model.0)?;
        self.leaving.insert(&model.0, ())?;
        self.untold.insert(&model.0, ())?;
        self.written = true;
        Ok(())
    }

    pub(super) fn untold(&self) -> Result<Vec<ModelId>, Trouble> {
        let mut models = Vec::new();
        for row in self.untold.iter()? {
            models.push(ModelId(*row?.0.value()));
        }
        Ok(models)
    }

    pub(super) fn told(&mut self, model: ModelId) -> Result<(), Trouble> {
        if self.untold.remove(&model.0)?.is_some() {
            self.written = true;
        }
        Ok(())
    }

    pub(super) fn left(&mut self, model: ModelId) -> Result<(), Trouble> {
        self.leaving.remove(&model.0)?;
        self.written = true;
        Ok(())
    }
}
