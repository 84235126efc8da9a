//! Every rule of a policy, broken alone: each is refused for its own reason.

mod sessions;
mod platforms;
mod chains;
mod intel;

use crate::forge::Case;
use consilium_attest::Refusal;
use std::collections::BTreeSet;

/// Each case is refused as expected, and no two with the same words.
fn refused(cases: Vec<(Case, Refusal)>) {
    let mut reasons = BTreeSet::new();
    for (case, expected) in cases {
        assert_eq!(case.refusal(), expected);
        assert!(reasons.insert(expected.to_string()), "two rules give one reason: {expected}");
    }
}

/// A forged case, changed after it was signed.
fn changed(mut case: Case, change: impl FnOnce(&mut Case)) -> Case {
    change(&mut case);
    case
}
