//! `consilium status --watch`: the same, drawn anew every few seconds.

use super::view::{Seen, lines};
use crate::admin::{AdminReply, AdminRequest, Report, call};
use crate::cli::output::{block_on, granted, print_json, unexpected};
use miette::{IntoDiagnostic, Result};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::widgets::Paragraph;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the node may take for an answer before the view says so.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Leave,
    Move(i32),
    Top,
    Nothing,
}

/// One JSON object a line, until whoever reads them has enough.
pub(super) fn stream(socket: &Path, every: Duration) -> Result<()> {
    loop {
        let started = Instant::now();
        let reply = block_on(call(socket, &AdminRequest::Status))?.into_diagnostic()?;
        let AdminReply::Status(report) = granted(true, reply)? else { return Err(unexpected()) };
        print_json(&report)?;
        std::thread::sleep(every.saturating_sub(started.elapsed()));
    }
}

/// Draws until somebody leaves. The first report must come; later ones may fail, which is shown.
pub(super) fn watch(socket: &Path, every: Duration) -> Result<()> {
    let mut seen = Seen::new(ask(socket).map_err(|fault| miette::miette!("{fault}"))?, every);
    let mut terminal = ratatui::try_init().into_diagnostic()?;
    let outcome = draw(&mut terminal, socket, &mut seen);
    ratatui::restore();
    outcome
}

fn draw(terminal: &mut DefaultTerminal, socket: &Path, seen: &mut Seen) -> Result<()> {
    let mut top = 0_u16;
    let mut next = Instant::now() + seen.every();
    loop {
        let frame = terminal.draw(|frame| {
            let area = frame.area();
            let text = lines(seen, area.width, Instant::now());
            top = top.min((text.len() as u16).saturating_sub(area.height));
            frame.render_widget(Paragraph::new(text).scroll((top, 0)), area);
        });
        frame.into_diagnostic()?;
        if event::poll(next.saturating_duration_since(Instant::now())).into_diagnostic()? {
            match wish(&event::read().into_diagnostic()?) {
                Wish::Leave => return Ok(()),
                Wish::Move(by) => top = top.saturating_add_signed(by.clamp(-1000, 1000) as i16),
                Wish::Top => top = 0,
                Wish::Nothing => {}
            }
        } else {
            seen.update(ask(socket));
            next = Instant::now() + seen.every();
        }
    }
}

/// The state of the node, or why it cannot be had.
fn ask(socket: &Path) -> std::result::Result<Report, String> {
    let request = AdminRequest::Status;
    let asked = async { tokio::time::timeout(ANSWER_WITHIN, call(socket, &request)).await };
    match block_on(asked).map_err(|error| error.to_string())? {
        Ok(Ok(AdminReply::Status(report))) => Ok(*report),
        Ok(Ok(AdminReply::Refused(refusal))) => Err(refusal.to_string()),
        Ok(Ok(_)) => Err(unexpected().to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("the node did not answer within {} s", ANSWER_WITHIN.as_secs())),
    }
}

fn wish(event: &Event) -> Wish {
    let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press | KeyEventKind::Repeat, .. }) =
        event
    else {
        return Wish::Nothing;
    };
    match code {
        KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Wish::Leave,
        KeyCode::Char('q') | KeyCode::Esc => Wish::Leave,
        KeyCode::Down | KeyCode::Char('j') => Wish::Move(1),
        KeyCode::Up | KeyCode::Char('k') => Wish::Move(-1),
        KeyCode::PageDown | KeyCode::Char(' ') => Wish::Move(10),
        KeyCode::PageUp => Wish::Move(-10),
        KeyCode::Home => Wish::Top,
        _ => Wish::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_leave_and_move() {
        let key = |code, modifiers| wish(&Event::Key(KeyEvent::new(code, modifiers)));
        assert_eq!(key(KeyCode::Char('q'), KeyModifiers::NONE), Wish::Leave);
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Wish::Leave);
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::NONE), Wish::Nothing);
        assert_eq!(key(KeyCode::Down, KeyModifiers::NONE), Wish::Move(1));
        assert_eq!(key(KeyCode::Home, KeyModifiers::NONE), Wish::Top);
        assert_eq!(wish(&Event::Resize(80, 24)), Wish::Nothing);
    }

    #[test]
    fn a_node_that_is_not_there_is_a_fault_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let fault = ask(&folder.path().join("admin.sock")).unwrap_err();
        assert!(fault.contains("cannot reach the node"), "{fault}");
    }
}
