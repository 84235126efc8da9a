//! The acts of a run: what is broken, what must be seen meanwhile, and how long it takes to heal.

use super::load::Asker;
use super::report::Part;
use super::tally::{Counts, Tally};
use super::terms::{EXACT, FURTHER, SECOND, Second};
use super::world::{Fault, World};
use super::{Failure, LOOK_EVERY, Say, TestbedError};
use std::time::{Duration, Instant};

/// How long what must be seen may take.
const WITHIN: Duration = Duration::from_secs(120);
/// Questions that make an act.
const QUESTIONS: u64 = 12;
/// Refusals that make one, which take as long as a deadline each.
const REFUSALS: u64 = 4;
/// Answers with software noise that make one: they come only once what the module drew ahead is used up, and then from
/// one pair while the other still has some.
const STEPPED_IN: u64 = 4;

/// What must be seen before a fault ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scene {
    /// Questions of the first pair are answered as always.
    Undisturbed,
    /// The first pair answers nothing: refused with a reason, or answered by the second pair.
    FirstPairDown,
    /// Noisy answers go on with noise of another source, and questions without noise as always.
    SoftwareStepsIn,
    /// Questions are asked, and some may be refused.
    Disturbed,
}

/// An act.
#[derive(Clone, Copy, Debug)]
struct Act {
    name: &'static str,
    fault: Option<Fault>,
    scene: Scene,
}

const ACTS: [Act; 9] = [
    Act { name: "all is well", fault: None, scene: Scene::Undisturbed },
    Act { name: "first pair parted", fault: Some(Fault::Cut("north", "south")), scene: Scene::FirstPairDown },
    Act { name: "party One killed", fault: Some(Fault::Killed("south")), scene: Scene::FirstPairDown },
    Act { name: "party Zero stopped", fault: Some(Fault::Stopped("north")), scene: Scene::FirstPairDown },
    Act { name: "second pair parted", fault: Some(Fault::Cut("east", "west")), scene: Scene::Undisturbed },
    Act { name: "an owner cut off", fault: Some(Fault::Isolated("hill")), scene: Scene::Undisturbed },
    Act {
        name: "the client behind NAT killed",
        fault: Some(Fault::Killed("practice")),
        scene: Scene::Disturbed,
    },
    Act { name: "the module killed", fault: Some(Fault::NoModule), scene: Scene::SoftwareStepsIn },
    Act { name: "a twentieth of packets lost", fault: Some(Fault::Lossy(0.05)), scene: Scene::Disturbed },
];

impl Scene {
    /// Whether enough was seen to go on, or an error where what was seen must not be.
    fn is_over(self, second: Second, tally: &Tally, name: &str) -> Result<bool, TestbedError> {
        let Counts { answered, unanswered, .. } = tally.of_task(EXACT);
        match self {
            Self::Undisturbed | Self::SoftwareStepsIn => {
                if unanswered > 0 {
                    let what =
                        format!("{name}: {unanswered} questions were not answered: {}", tally.refusals());
                    return Err(TestbedError::Unexpected { what });
                }
                let software = tally.noise_of("software");
                Ok(match self {
                    Self::SoftwareStepsIn => software >= STEPPED_IN,
                    _ => answered >= QUESTIONS,
                })
            }
            Self::FirstPairDown => match second {
                // What was under way when the pair broke may be refused.
                Second::StandsIn => {
                    Ok(tally.by_pair.get(FURTHER).is_some_and(|answered| *answered >= QUESTIONS))
                }
                // The pair with a task of its own goes on.
                Second::Alone => Ok(unanswered >= REFUSALS && tally.of_task(SECOND).answered >= QUESTIONS),
            },
            Self::Disturbed => Ok(answered >= QUESTIONS),
        }
    }
}

/// Plays all acts in turn.
pub(super) async fn play(
    world: &mut World,
    second: Second,
    probes: &[Asker],
    say: Say<'_>,
) -> Result<Vec<Part>, Failure> {
    let mut parts = Vec::new();
    for act in ACTS {
        let (started, number) = (Instant::now(), world.board.turn());
        if let Some(fault) = act.fault {
            world.begin(fault).await?;
        }
        let fault = scene(world, act, second, number).await;
        let fault = fault.err().map(|error| error.to_string());
        let heal = match act.fault {
            None => None,
            Some(fault) => {
                // What is asked from here on belongs to the healing, and is counted with the act.
                world.end(fault).await?;
                Some(world.heal(probes).await)
            }
        };
        let tally = world.board.tally(number);
        let mut part = Part::new(act.name, tally, started.elapsed());
        part.problems.extend(fault);
        match heal {
            Some(Ok(heal)) => part.heal_seconds = Some(heal.as_secs_f64()),
            Some(Err(error)) => part.problems.push(error.to_string()),
            None => {}
        }
        say(&part.line());
        let is_whole = part.problems.is_empty();
        parts.push(part);
        if !is_whole {
            // What follows would only show the same again.
            break;
        }
    }
    Ok(parts)
}

/// Waits until an act has shown what it should.
async fn scene(world: &mut World, act: Act, second: Second, number: usize) -> Result<(), TestbedError> {
    let started = Instant::now();
    loop {
        for node in &mut world.nodes {
            node.check()?;
        }
        let tally = world.board.tally(number);
        if act.scene.is_over(second, &tally, act.name)? {
            return Ok(());
        }
        if started.elapsed() > WITHIN {
            let Counts { answered, unanswered, .. } = tally.of_task(EXACT);
            let what = format!(
                "{}: {answered} questions answered, {unanswered} not, in {WITHIN:?}: {}; noise by source: {:?}",
                act.name,
                tally.refusals(),
                tally.by_noise
            );
            return Err(TestbedError::Unexpected { what });
        }
        // The client behind translation is not missed by the other one, who goes on asking.
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::tally::Outcome;
    use super::super::terms::{NOISY, named};
    use super::*;
    use consilium::message::{Obstacle, Refusal};

    fn tally(answered: u64, refused: u64, second: u64) -> Tally {
        let mut tally = Tally::default();
        let no = || Outcome::Refused(Refusal::new(Obstacle::Peer, "down"));
        (0..answered).for_each(|_| tally.note(named(EXACT), Outcome::Right, Duration::ZERO));
        (0..refused).for_each(|_| tally.note(named(EXACT), no(), Duration::ZERO));
        (0..second).for_each(|_| tally.note(named(SECOND), Outcome::Right, Duration::ZERO));
        tally
    }

    #[test]
    fn a_scene_ends_when_it_has_shown_what_it_should() {
        let over = |scene: Scene, second, tally| scene.is_over(second, &tally, "act").ok();
        assert_eq!(over(Scene::Undisturbed, Second::Alone, tally(12, 0, 0)), Some(true));
        assert_eq!(over(Scene::Undisturbed, Second::Alone, tally(11, 0, 9)), Some(false));
        assert_eq!(over(Scene::Undisturbed, Second::Alone, tally(50, 1, 0)), None);
        assert_eq!(over(Scene::FirstPairDown, Second::Alone, tally(3, 4, 12)), Some(true));
        assert_eq!(over(Scene::FirstPairDown, Second::Alone, tally(50, 4, 11)), Some(false));
        assert_eq!(over(Scene::FirstPairDown, Second::Alone, tally(50, 3, 12)), Some(false));
        assert_eq!(over(Scene::FirstPairDown, Second::StandsIn, tally(60, 60, 0)), Some(false));
        let mut taken_over = tally(12, 3, 0);
        (0..QUESTIONS).for_each(|_| taken_over.note_pair(FURTHER.to_owned()));
        assert_eq!(over(Scene::FirstPairDown, Second::StandsIn, taken_over), Some(true));
        let mut stepped_in = tally(1, 0, 0);
        assert_eq!(over(Scene::SoftwareStepsIn, Second::StandsIn, stepped_in.clone()), Some(false));
        (0..STEPPED_IN)
            .for_each(|_| stepped_in.note(named(NOISY), Outcome::Noisy("software"), Duration::ZERO));
        assert_eq!(over(Scene::SoftwareStepsIn, Second::StandsIn, stepped_in), Some(true));
    }
}
