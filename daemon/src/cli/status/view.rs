//! What the live view shows: a report as lines, and what changed since the one before.
//!
//! Colour never says anything alone: it may be missing, on the terminal or in the eye.

use super::duties;
use crate::admin::{MemberStatus, ModuleStatus, Report, SeatStatus, TaskStatus};
use crate::ledger::seconds_now;
use crate::losses::rounded_up_to;
use consilium_attest::choice::NoiseRule;
use ratatui::style::{Style, Stylize};
use ratatui::text::{Line, Span};
use std::time::{Duration, Instant};

/// Columns of a bar.
const BAR: std::ops::RangeInclusive<u16> = 10..=40;
/// Columns before a value.
const INDENT: usize = 12;

/// Reports as they come.
pub(super) struct Seen {
    every: Duration,
    now: Report,
    at: Instant,
    before: Option<(Report, Instant)>,
    fault: Option<String>,
}

impl Seen {
    /// The first report.
    pub(super) fn new(report: Report, every: Duration) -> Self {
        Self { every, now: report, at: Instant::now(), before: None, fault: None }
    }

    /// How often a report is wanted.
    pub(super) fn every(&self) -> Duration {
        self.every
    }

    /// The next report, or why there is none; then the last one stays.
    pub(super) fn update(&mut self, next: Result<Report, String>) {
        match next {
            Ok(report) => {
                let now = Instant::now();
                self.before = Some((std::mem::replace(&mut self.now, report), self.at));
                (self.at, self.fault) = (now, None);
            }
            Err(fault) => self.fault = Some(fault),
        }
    }

    /// Answers of a task a second, between the last two reports.
    fn speed(&self, pair: &str, task: &TaskStatus) -> Option<f64> {
        let (before, at) = self.before.as_ref()?;
        let seat = before.seats.iter().find(|seat| seat.pair == pair)?;
        let earlier = seat.tasks.iter().find(|one| one.task == task.task)?;
        let seconds = self.at.duration_since(*at).as_secs_f64();
        let answered = task.answered.checked_sub(earlier.answered)?;
        (seconds > 0.0).then(|| answered as f64 / seconds)
    }
}

/// The view, for a terminal of this many columns.
pub(super) fn lines(seen: &Seen, columns: u16, now: Instant) -> Vec<Line<'static>> {
    let report = &seen.now;
    let mut lines = vec![Line::from(vec![report.name.clone().bold(), format!("  {}", report.peer).dim()])];
    if let Some(fault) = &seen.fault {
        let age = now.duration_since(seen.at).as_secs();
        lines.push(Line::from(format!("NO ANSWER for {age} s: {fault}").red().bold()));
    }
    let listening =
        if report.listening.is_empty() { "nothing".to_owned() } else { report.listening.join(", ") };
    lines.push(Line::from(format!("listening on {listening}")));
    if report.dealer {
        lines.push(Line::from("deals correlated randomness"));
    }
    lines.push(Line::default());
    if !report.relays.is_empty() {
        lines.push(Line::from(format!("others reach it through {}", report.relays.join(", "))));
    }
    members(report, &mut lines);
    for detour in &report.detours {
        lines.push(Line::from(detour.in_words().yellow()));
    }
    for seat in &report.seats {
        lines.push(Line::default());
        self::seat(seen, seat, columns, &mut lines);
    }
    for task in &report.encrypted {
        lines.push(Line::from(super::encrypted(task)));
    }
    for task in &report.laboratory {
        lines.push(Line::from(super::laboratory(task)));
    }
    lines.push(Line::default());
    let every = seen.every.as_secs_f64();
    lines.push(Line::from(format!("every {every} s; q leaves, arrows move").dim()));
    lines
}

fn members(report: &Report, lines: &mut Vec<Line<'static>>) {
    let up = report.members.iter().filter(|member| member.connected).count();
    let heading = format!("peers: {up} of {} connected", report.members.len());
    lines.push(Line::from(vec![heading.bold(), format!("; channels that broke: {}", report.faults).into()]));
    let width = report.members.iter().map(|member| member.name.chars().count()).max().unwrap_or(0);
    for member in &report.members {
        let name = format!("  {:width$}  ", member.name);
        lines.push(Line::from(vec![name.into(), connection(member), format!("  {}", duties(member)).dim()]));
    }
}

fn connection(member: &MemberStatus) -> Span<'static> {
    match (&member.fault, member.connected) {
        (_, true) => {
            let trip = member.round_trip_ms.map_or_else(String::new, |trip| format!(", {trip:.1} ms"));
            let relay = member.relay.as_ref().map_or_else(String::new, |relay| format!(" through {relay}"));
            format!("up{relay}{trip}").green()
        }
        (Some(fault), false) => format!("DOWN: {fault}").red(),
        (None, false) => "not connected".to_owned().yellow(),
    }
}

fn seat(seen: &Seen, seat: &SeatStatus, columns: u16, lines: &mut Vec<Line<'static>>) {
    lines.push(Line::from(format!("pair {}, party {}", seat.pair, seat.seat).bold()));
    if let Some(module) = &seat.module {
        lines.push(Line::from(vec!["  noise module: ".into(), self::module(module)]));
    }
    if let Some(fault) = &seat.refill_fault {
        lines.push(Line::from(format!("  the pool cannot be refilled: {fault}").red()));
    }
    for task in &seat.tasks {
        lines.push(Line::default());
        self::task(seen, &seat.pair, task, columns, lines);
    }
}

fn module(module: &ModuleStatus) -> Span<'static> {
    match module {
        ModuleStatus::Unasked => "not asked yet".to_owned().yellow(),
        ModuleStatus::Unreachable { reason, .. } => format!("CANNOT BE REACHED: {reason}").red(),
        ModuleStatus::Refused { reason } => format!("EVIDENCE REFUSED: {reason}").red().bold(),
        ModuleStatus::Accepted { shown, valid_until, .. } => {
            let left = valid_until.saturating_sub(seconds_now());
            let text = format!("{shown}; counts for {left} s more");
            if left == 0 { text.yellow() } else { text.green() }
        }
    }
}

fn task(seen: &Seen, pair: &str, task: &TaskStatus, columns: u16, lines: &mut Vec<Line<'static>>) {
    let models = match task.shards {
        1 => format!("models {} of {}", task.models_ready, task.owners),
        each => format!("models of {} of {} owners, {each} each", task.owners_ready, task.owners),
    };
    lines.push(Line::from(vec![
        format!("  {}", task.task).bold(),
        format!("  {models}; {}", task.mechanism).into(),
    ]));
    let wide = (columns / 3).clamp(*BAR.start(), *BAR.end());
    let mut row = |what: &str, spans: Vec<Span<'static>>| {
        let mut all = vec![Span::from(format!("    {what:INDENT$}"))];
        all.extend(spans);
        lines.push(Line::from(all));
    };
    match task.pool {
        Some(pool) => {
            let part = pool.left as f64 / f64::from(pool.high.max(1));
            let style = match pool.left {
                0 => Style::new().red(),
                left if left < u64::from(pool.low) => Style::new().yellow(),
                _ => Style::new().green(),
            };
            let empty = if pool.left == 0 { ", EMPTY" } else { "" };
            let text = format!(
                " {} of {}{empty}, refilled below {}; used {}",
                pool.left, pool.high, pool.low, pool.used
            );
            row("pool", vec![bar(part, wide, style), text.into()]);
        }
        None => row("pool", vec!["NONE: no models are agreed on yet".to_owned().yellow()]),
    }
    if let Some(refill) = &task.refill {
        let speed =
            refill.bundles_per_second.map_or_else(String::new, |speed| format!(", {speed:.1} a second"));
        let batch =
            refill.batch.map_or_else(String::new, |(made, of)| format!(", {made} of {of} in progress"));
        row("made by", vec![format!("{}{speed}{batch}", refill.source).into()]);
        if let Some(fault) = &refill.fault {
            row("", vec![format!("last batch failed: {fault}").red()]);
        }
    }
    if let (Some(spent), Some(budget)) = (task.epsilon_spent, task.epsilon_budget) {
        let part = if budget > 0.0 { spent / budget } else { 1.0 };
        let (style, word) = match part {
            part if part >= 1.0 => (Style::new().red(), ", SPENT"),
            part if part >= 0.8 => (Style::new().yellow(), ", nearly spent"),
            _ => (Style::new().green(), ""),
        };
        let slice = task.slice.as_ref().map_or_else(String::new, |slice| format!(", slice {slice}"));
        let text = format!(" epsilon {} of {budget:.2} spent{word}{slice}", rounded_up_to(spent, 2));
        row("budget", vec![bar(part, wide, style), text.into()]);
    }
    let speed = seen.speed(pair, task).map_or_else(String::new, |speed| format!(", {speed:.2} a second"));
    let rounds = task.rounds.map_or_else(String::new, |rounds| format!("; {rounds} rounds each"));
    let queries = format!("{} answered{speed}, up to {} together{rounds}", task.answered, task.together_most);
    row("queries", vec![queries.into()]);
    if let Some(noise) = &task.noise {
        let from = match noise.rule {
            NoiseRule::Software => "each party, in software".to_owned(),
            NoiseRule::Module => format!("the module, or no release; {} ahead", noise.ahead),
            NoiseRule::ModuleElseSoftware => format!("the module, else each party; {} ahead", noise.ahead),
        };
        row("noise", vec![from.into()]);
        if let Some(fault) = &noise.fault {
            row("", vec![format!("last draw failed: {fault}").red()]);
        }
    }
}

/// A bar of which `part` is full.
fn bar(part: f64, columns: u16, style: Style) -> Span<'static> {
    let columns = usize::from(columns);
    let full = (part.clamp(0.0, 1.0) * columns as f64).round() as usize;
    // A little is not nothing, and nearly full is not full.
    let full = if part > 0.0 { full.max(1) } else { full };
    let full = if part < 1.0 { full.min(columns - 1) } else { full };
    Span::styled(format!("{}{}", "█".repeat(full), "░".repeat(columns - full)), style)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{Level, NoiseStatus, Refill};
    use crate::client::Detour;
    use crate::encrypted::{ClientCount, EncryptedStatus};
    use consilium_protocol::party::Party;

    fn task() -> TaskStatus {
        TaskStatus {
            task: "chest".into(),
            models_ready: 2,
            owners_ready: 2,
            owners: 3,
            shards: 1,
            pool: Some(Level { left: 16, used: 5, low: 8, high: 64 }),
            refill: Some(Refill {
                pool: "00".into(),
                source: "pairwise".into(),
                bytes_on_disk: Some(1),
                bundles_per_second: Some(12.5),
                batch: Some((3, 128)),
                fault: None,
            }),
            rounds: Some(17),
            bytes: Some(100),
            mechanism: "discrete Gaussian".into(),
            noise: Some(NoiseStatus { rule: NoiseRule::Module, ahead: 4, fault: Some("it slept".into()) }),
            answered: 10,
            computations: 9,
            together_most: 2,
            epsilon_spent: Some(6.5),
            epsilon_budget: Some(8.0),
            slice: None,
            losses: None,
            losses_at_budget: None,
        }
    }

    fn report() -> Report {
        let member = |name: &str, connected: bool, fault: Option<&str>| MemberStatus {
            name: name.into(),
            roles: vec!["owner".into()],
            serves: if name == "south" { vec!["chest".into()] } else { Vec::new() },
            connected,
            relay: None,
            round_trip_ms: connected.then_some(0.4),
            fault: fault.map(str::to_owned),
        };
        Report {
            name: "north".into(),
            peer: "12D3KooW".into(),
            listening: vec!["/ip4/0.0.0.0/tcp/4710".into()],
            members: vec![
                member("south", true, None),
                member("west", false, Some("refused")),
                member("a-practice", false, None),
            ],
            seats: vec![SeatStatus {
                pair: "main".into(),
                seat: Party::Zero,
                tasks: vec![task()],
                refill_fault: None,
                module: Some(ModuleStatus::Refused { reason: "an old firmware".into() }),
            }],
            dealer: false,
            relays: vec!["south".into()],
            prospects: Vec::new(),
            faults: 3,
            detours: vec![Detour {
                task: "chest".into(),
                pair: "main".into(),
                looked_at_in: 4,
                reason: "it is down".into(),
            }],
            encrypted: vec![EncryptedStatus {
                task: "digits".into(),
                owner: "north".into(),
                inputs_per_client_max: 1000,
                published: None,
                clients: vec![ClientCount { client: "practice".into(), counted: 8, left: 992 }],
                queries: 1,
                answered: 5,
                refused: 2,
            }],
            laboratory: vec![crate::laboratory::LaboratoryStatus {
                task: "encodings".into(),
                hospitals: vec!["north".into(), "west".into()],
                lab: true,
                files: 3,
            }],
        }
    }

    fn text(seen: &Seen, columns: u16) -> String {
        let lines = lines(seen, columns, seen.at + Duration::from_secs(7));
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn all_of_it_is_there_in_words() {
        let text = text(&Seen::new(report(), Duration::from_secs(2)), 80);
        for wanted in [
            "north  12D3KooW",
            "listening on /ip4/0.0.0.0/tcp/4710",
            "peers: 1 of 3 connected; channels that broke: 3",
            "others reach it through south",
            "  south       up, 0.4 ms  owner; computes chest",
            "questions of chest go around pair main, looked at again in 4 s: it is down",
            "  west        DOWN: refused",
            "  a-practice  not connected",
            "pair main, party",
            "noise module: EVIDENCE REFUSED: an old firmware",
            "  chest  models 2 of 3; discrete Gaussian",
            " 16 of 64, refilled below 8; used 5",
            "pairwise, 12.5 a second, 3 of 128 in progress",
            "epsilon 6.50 of 8.00 spent, nearly spent",
            "10 answered, up to 2 together; 17 rounds each",
            "the module, or no release; 4 ahead",
            "last draw failed: it slept",
            "encrypted task digits of north: 5 queries answered, 2 refused; practice: 8 of 1000 inputs, 992 left",
            "laboratory task encodings of north, west: 3 files of encodings came; NOT confidential",
            "every 2 s; q leaves",
        ] {
            assert!(text.contains(wanted), "{wanted:?} is missing from\n{text}");
        }
    }

    #[test]
    fn what_changed_is_told_and_a_silent_node_keeps_its_last_report() {
        let mut seen = Seen::new(report(), Duration::from_secs(2));
        let first = seen.at;
        let mut next = report();
        next.seats[0].tasks[0].answered = 16;
        next.seats[0].tasks[0].pool = Some(Level { left: 0, used: 80, low: 8, high: 64 });
        seen.update(Ok(next));
        seen.at = first + Duration::from_secs(3);
        let shown = text(&seen, 80);
        assert!(shown.contains("16 answered, 2.00 a second"), "{shown}");
        assert!(shown.contains("0 of 64, EMPTY"), "{shown}");
        seen.update(Err("cannot reach the node".into()));
        let shown = text(&seen, 80);
        assert!(shown.contains("NO ANSWER for 7 s: cannot reach the node"), "{shown}");
        assert!(shown.contains("16 answered"), "{shown}");
        // A node that began anew has fewer answers: no speed is made of that.
        seen.update(Ok(report()));
        assert!(text(&seen, 80).contains("10 answered, up to"), "{}", text(&seen, 80));
    }

    #[test]
    fn bars_tell_little_from_nothing_and_much_from_all() {
        let shown = |part: f64| bar(part, 10, Style::new()).content.chars().filter(|one| *one == '█').count();
        assert_eq!([0.0, 0.001, 0.5, 0.999, 1.0, 7.0].map(shown), [0, 1, 5, 9, 10, 10]);
        assert_eq!(bar(0.3, 10, Style::new()).content.chars().count(), 10);
        for columns in [0, 20, 80, 500] {
            assert!(text(&Seen::new(report(), Duration::from_secs(2)), columns).contains('█'));
        }
    }
}
