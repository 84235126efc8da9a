//! Compute parties that are far apart, behind a link that delays.

use crate::setting::{EXACT, Setting, in_runtime, scenario};
use consilium::demo::{Scenario, names};
use consilium_tests::link::{Line, place_before};
use futures::future::join_all;
use std::time::Duration;

const DELAY: Duration = Duration::from_millis(20);
const AT_ONCE: usize = 12;

#[test]
fn far_apart_the_rounds_decide_and_questions_at_once_share_them() {
    in_runtime(async {
        // Bundles for two questions, and for all that are asked at once.
        let scenario = Scenario { pool: (2 + AT_ONCE as u32, 4 * AT_ONCE as u32), ..scenario() };
        let mut setting = Setting::prepared(scenario, "info");
        let line = Line { delay: DELAY, bits_per_second: Some(100_000_000) };
        let _links = [names::ZERO, names::ONE].map(|name| place_before(&setting.world, name, line).unwrap());
        setting.world.launch_all().await.unwrap();
        setting.publish_all(&[EXACT]).await;
        setting.ask(EXACT, 0, None).await.unwrap();
        let alone = setting.ask(EXACT, 0, None).await.unwrap();
        // Both parties send a round at once, so that it takes one delay; party One sends its first frame with its
        // consent. The rest of the way is from the client and back, and to party One and back.
        let delay = DELAY.as_secs_f64() * 1e3;
        let rounds = f64::from(alone.terms.rounds - 1) * delay;
        assert!(alone.terms.rounds_us as f64 >= rounds * 1e3, "{alone:?}");
        assert!(alone.milliseconds >= rounds + 4.0 * delay, "{alone:?}");
        let told = join_all((0..AT_ONCE).map(|row| setting.ask(EXACT, row, None))).await;
        let mut most = 0;
        for (row, told) in told.into_iter().enumerate() {
            let (answer, verdict) = (told.unwrap(), setting.verdict(row));
            assert!(!verdict.certain || answer.labels == [Some(verdict.label as u32)], "row {row}");
            most = most.max(answer.terms.together as usize);
        }
        assert!(most > AT_ONCE / 4, "{most} of {AT_ONCE} together");
    });
}
