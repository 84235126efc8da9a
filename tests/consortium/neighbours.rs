//! Two consortia on one machine.

use crate::setting::{EXACT, Setting, in_runtime};
use consilium::demo::names;
use std::collections::BTreeSet;

#[test]
fn two_consortia_do_not_notice_each_other() {
    in_runtime(async {
        let (left, right) = tokio::join!(Setting::published(&[EXACT]), Setting::published(&[EXACT]));
        let mut addresses = BTreeSet::new();
        for setting in [&left, &right] {
            for name in [names::ZERO, names::ONE] {
                let report = setting.world.status(name).await.unwrap();
                assert_eq!(report.members.len(), setting.world.processes() - 1);
                assert!(report.listening.into_iter().all(|address| addresses.insert(address)));
            }
        }
        assert_eq!(addresses.len(), 4);
        for row in 0..8 {
            let (left, right) = tokio::join!(left.ask(EXACT, row, None), right.ask(EXACT, row, None));
            assert_eq!(left.unwrap().labels, right.unwrap().labels);
        }
    });
}
