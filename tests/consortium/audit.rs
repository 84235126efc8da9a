//! Reads the ledgers of stopped compute parties.

use crate::setting::Setting;
use consilium::admin::{AdminReply, export};
use consilium::demo::names;
use consilium::ledger::{
    Audit as Export, Correlations, Entry, Ledger, NoiseTicket, Record, ReleaseId, Report, compare,
};
use consilium::vault::StorageKey;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One party's ledger.
pub(crate) struct Audit {
    /// The books of the task asked for.
    pub(crate) books: Report,
    /// The releases of that task.
    pub(crate) of_task: BTreeSet<ReleaseId>,
    /// What each release of any task was reserved with.
    pub(crate) reserved: BTreeMap<ReleaseId, Correlations>,
    /// The module's noise for each, if it took that.
    pub(crate) tickets: BTreeMap<ReleaseId, Option<NoiseTicket>>,
    pub(crate) committed: BTreeSet<ReleaseId>,
}

#[derive(Deserialize)]
struct Line {
    record: Record,
}

/// Both parties' exports, taken while they run and nobody asks. Each is sound, and they agree.
pub(crate) async fn exports(setting: &Setting) -> [Export; 2] {
    let mut both = Vec::new();
    for name in [names::ZERO, names::ONE] {
        let mut bytes = Vec::new();
        let reply = export(&setting.world.socket(name), &mut bytes).await.unwrap();
        assert!(matches!(reply, AdminReply::Exported { .. }), "{name}: {reply:?}");
        let audit = Export::read(bytes.as_slice()).unwrap();
        assert_eq!(audit.problems(), [""; 0], "{name}");
        both.push(audit);
    }
    let both = <[Export; 2]>::try_from(both).ok().unwrap();
    assert_eq!(compare(&both[0], &both[1]), [""; 0]);
    both
}

/// Verifies the chain, and that serials only went up and every answer was paid for first.
pub(crate) fn audit(setting: &Setting, name: &str, task: &str) -> Audit {
    audit_in(setting, (name, "main"), task)
}

/// The same of a party of any pair.
pub(crate) fn audit_in(setting: &Setting, (name, pair): (&str, &str), task: &str) -> Audit {
    let folder = setting.world.folder_of(name);
    let key = Arc::new(StorageKey::load(&folder.join("storage.key")).unwrap());
    let ledger = Ledger::open(&folder.join("pairs").join(pair).join("ledger.redb"), key).unwrap();
    ledger.verify().unwrap();
    let mut text = Vec::new();
    ledger.export(&mut text).unwrap();
    let mut marks: BTreeMap<[u8; 16], u64> = BTreeMap::new();
    let mut audit = Audit {
        books: ledger.report(task).unwrap(),
        of_task: BTreeSet::new(),
        reserved: BTreeMap::new(),
        tickets: BTreeMap::new(),
        committed: BTreeSet::new(),
    };
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line: Line = serde_json::from_slice(line).unwrap();
        match line.record.entry {
            Entry::Reserve(request) => {
                let correlations = request.correlations;
                if request.task == task {
                    audit.of_task.insert(request.release);
                }
                let mark = marks.entry(correlations.epoch).or_insert(0);
                assert!(correlations.first >= *mark, "{name}: serial {} again", correlations.first);
                *mark = correlations.first + u64::from(correlations.count);
                assert!(audit.reserved.insert(request.release, correlations).is_none());
                audit.tickets.insert(request.release, request.noise_ticket);
            }
            Entry::Burn { epoch, below } => {
                let mark = marks.entry(epoch).or_insert(0);
                assert!(below > *mark, "{name}: a mark fell to {below}");
                *mark = below;
            }
            Entry::Commit { release, .. } => {
                assert!(audit.reserved.contains_key(&release));
                assert!(audit.committed.insert(release), "{name}: {release} was answered twice");
            }
            _ => {}
        }
    }
    for account in audit.books.owners.iter().chain(&audit.books.clients) {
        assert!(account.spent <= account.limit, "{name}: {account:?}");
    }
    audit
}

/// Both parties' ledgers of a world that is at rest. The serials of a release are the same on both, and no
/// serial of any pool was reserved for two releases, by one party or by both together.
pub(crate) fn audit_both(setting: &mut Setting, task: &str) -> [Audit; 2] {
    setting.world.stop();
    let both = [names::ZERO, names::ONE].map(|name| audit(setting, name, task));
    for (release, correlations) in &both[1].reserved {
        assert_eq!(both[0].reserved.get(release), Some(correlations), "{release}");
    }
    let mut users: BTreeMap<([u8; 16], u64), ReleaseId> = BTreeMap::new();
    for (release, correlations) in both.iter().flat_map(|audit| &audit.reserved) {
        for serial in correlations.first..correlations.first + u64::from(correlations.count) {
            let user = *users.entry((correlations.epoch, serial)).or_insert(*release);
            assert_eq!(user, *release, "serial {serial} was used twice");
        }
    }
    both
}
