//! Compute parties that nobody can dial.

use crate::setting::{EXACT, Setting, dealt_scenario, in_runtime};
use consilium::demo::names;

/// Has the nodes of a world that does not run yet reach both compute parties through the dealer alone.
fn behind_nats(setting: &Setting) {
    let edit = |file: std::path::PathBuf, change: &dyn Fn(&str) -> String| {
        let text = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<String> = text.lines().map(change).collect();
        std::fs::write(file, lines.join("\n")).unwrap();
    };
    let file = |name: &str| setting.world.folder_of(name).join("consilium.toml");
    for name in [names::ZERO, names::ONE] {
        let text = std::fs::read_to_string(file(name)).unwrap();
        let listen = text.lines().find_map(|line| line.strip_prefix("listen = ")).unwrap().to_owned();
        edit(setting.world.folder_of("roster.toml"), &|line| line.replace(&listen, "[\"/p2p-circuit\"]"));
        edit(file(name), &|line| match line.strip_prefix("listen = ") {
            Some(found) if found == listen => "listen = []\nbehind_nat = true".to_owned(),
            _ => line.to_owned(),
        });
    }
    edit(file(names::DEALER), &|line| match line {
        "[network]" => "[network]\nrelay = true".to_owned(),
        _ => line.to_owned(),
    });
}

#[test]
fn questions_are_answered_by_parties_behind_nats() {
    in_runtime(async {
        let mut setting = Setting::prepared(dealt_scenario(), "info");
        behind_nats(&setting);
        setting.world.launch_all().await.unwrap();
        setting.publish_all(&[EXACT]).await;
        setting.filled(EXACT).await;
        for row in 0..3 {
            let (answer, verdict) = (setting.answered(EXACT, row).await, setting.verdict(row));
            assert!(!verdict.certain || answer.labels == [Some(verdict.label as u32)], "row {row}");
        }
        let zero = setting.world.status(names::ZERO).await.unwrap();
        assert_eq!(zero.relays, [names::DEALER]);
        assert_eq!(zero.listening, Vec::<String>::new());
        let through = |name: &str| zero.members.iter().find(|member| member.name == name).unwrap();
        for name in [names::ONE, names::CLIENT] {
            let member = through(name);
            assert!(member.connected, "{name}");
            assert_eq!(member.relay.as_deref(), Some(names::DEALER), "{name}");
        }
        assert_eq!(through(names::DEALER).relay, None);
        // The relay goes and comes back; so do all connections through it, by themselves.
        setting.world.kill(names::DEALER).unwrap();
        setting.revive(names::DEALER).await;
        for name in [names::ZERO, names::ONE, names::CLIENT] {
            setting.world.ready(name).await.unwrap();
        }
        let (answer, verdict) = (setting.ask(EXACT, 3, None).await.unwrap(), setting.verdict(3));
        assert!(!verdict.certain || answer.labels == [Some(verdict.label as u32)]);
    });
}
