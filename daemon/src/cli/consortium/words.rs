//! What is shown about rosters, in words.

use crate::cli::output::table;
use crate::consortium::Standing;
use comfy_table::Table;
use consilium_config::Change;

pub(super) use crate::cli::privacy::moment;

/// Where a member's roster stands.
pub(super) fn standing(standing: Option<Standing>) -> String {
    match standing {
        None => "this node".to_owned(),
        Some(Standing::Unheard) => "not heard yet".to_owned(),
        Some(Standing::Same) => "same".to_owned(),
        Some(Standing::Stale { version }) => format!("version {version}, STALE: refused"),
        Some(Standing::Ahead { version }) => format!("version {version}, being fetched"),
        Some(Standing::Forked { version }) => format!("ANOTHER version {version}: FORK, refused"),
        Some(Standing::Elsewhere) => "another consortium: refused".to_owned(),
    }
}

/// The differences of two rosters.
pub(super) fn changes(changes: &[Change]) -> Table {
    let mut rows = table(&["change of", "from", "to"]);
    for change in changes {
        let shown = |value: &Option<String>, none: &str| value.clone().unwrap_or_else(|| none.to_owned());
        rows.add_row([change.at.clone(), shown(&change.before, "(new)"), shown(&change.after, "(removed)")]);
    }
    rows
}

/// Names, or a word for none.
pub(super) fn names(names: &[String]) -> String {
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}
