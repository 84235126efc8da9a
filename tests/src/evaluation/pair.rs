//! The release by two parties: shares of votes in, over a socket, and out of each its share of the answers.
//!
//! The gate and the sharing are those of the product; owners, dealer and client are the caller, who also brings
//! the noise of each party. What is left out is the models, whose votes are taken as they are, and with them
//! the daemon around the rounds.

use crate::data::Ensemble;
use crate::noise::{DrawError, PartyNoise};
use consilium::task::release_shape;
use consilium_protocol::algebra::prg::{Seed, SeedError};
use consilium_protocol::context::{Computation, ComputationError, Context, Lane, Link, LinkError, Meter};
use consilium_protocol::graph::PlanError;
use consilium_protocol::offline::dealer::{WeightMasks, corrections};
use consilium_protocol::online::release::{ReleaseGate, answers, release};
use consilium_protocol::party::Party;
use consilium_protocol::privacy::Mechanism;
use consilium_protocol::share::Additive;
use consilium_protocol::stock::{Demand, Gadget, Provision, StockError, Tape, WeightOpenings};
use std::net::{TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Queries side by side.
const BATCH: usize = 100;
/// Batches that wait for a party.
const AHEAD: usize = 2;

/// What a run of the release gave.
#[derive(Clone, Debug)]
pub struct Released {
    /// One label for each row, or none where there was no consensus.
    pub answers: Vec<Option<usize>>,
    /// Rounds and bytes of one batch, by each party.
    pub meter: Meter,
    /// Queries of a batch.
    pub batch: usize,
}

/// Why there are no answers.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The mechanism does not fit the votes.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// No entropy.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// The bundle does not serve the gate.
    #[error(transparent)]
    Stock(#[from] StockError),
    /// No noise.
    #[error(transparent)]
    Noise(#[from] DrawError),
    /// The rounds.
    #[error("the rounds: {0}")]
    Rounds(#[from] ComputationError<StockError>),
    /// Socket or runtime.
    #[error("the socket between the parties: {0}")]
    Socket(#[from] std::io::Error),
    /// A party ended early; its own failure says why.
    #[error("a party stopped before the last batch")]
    Stopped,
}

/// Draws of noise that answering so many rows takes: batches are filled up.
pub fn draws(rows: usize) -> usize {
    rows.next_multiple_of(BATCH)
}

/// Answers the first `rows` test rows of an ensemble, from its owners' votes and the noise of Zero and of One.
///
/// # Errors
/// As [`ReleaseError`].
pub fn release_votes(
    ensemble: &Ensemble,
    rows: usize,
    mechanism: &Mechanism,
    gadget: Gadget,
    noise: [PartyNoise; 2],
) -> Result<Released, ReleaseError> {
    let [noise_zero, noise_one] = noise;
    let rows = rows.min(ensemble.labels.len());
    let gate = release_shape(mechanism).gate(ensemble.votes.len(), ensemble.classes, BATCH, gadget)?;
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    let [(to_zero, for_zero), (to_one, for_one)] = [(); 2].map(|()| sync_channel(AHEAD));
    let (shared, [zero, one]) = std::thread::scope(|scope| {
        let zero = scope.spawn(|| party(Party::Zero, listener.accept()?.0, for_zero, gate, noise_zero));
        let one = scope.spawn(|| party(Party::One, TcpStream::connect(address)?, for_one, gate, noise_one));
        let shared = share_all(ensemble, rows, gate, [to_zero, to_one]);
        let joined = [zero, one].map(|handle| handle.join().unwrap_or(Err(ReleaseError::Stopped)));
        (shared, joined)
    });
    // A party's own failure says more than that it no longer listens.
    let ((zero, meter), (one, _)) = (zero?, one?);
    shared?;
    let decoded = zero
        .iter()
        .zip(&one)
        .flat_map(|(zero, one)| answers([zero, one], gate.vote.classes, BATCH, gate.threshold.is_some()));
    Ok(Released { answers: decoded.take(rows).collect(), meter, batch: BATCH })
}

/// What one party gets for a batch: its share of every owner's votes, and its half of a bundle.
struct Brought {
    votes: Vec<Additive>,
    provision: Provision,
}

/// The owners' and the dealer's part.
fn share_all(
    ensemble: &Ensemble,
    rows: usize,
    gate: ReleaseGate,
    parties: [SyncSender<Brought>; 2],
) -> Result<(), ReleaseError> {
    let lanes = vec![gate.demands()];
    for first in (0..rows).step_by(BATCH) {
        let (mut zero, mut one) = (Vec::new(), Vec::new());
        for votes in &ensemble.votes {
            let mut one_hot = vec![0; gate.vote.classes * BATCH];
            for (query, vote) in votes[first..rows.min(first + BATCH)].iter().enumerate() {
                one_hot[usize::from(*vote) * BATCH + query] = 1;
            }
            let seed = Seed::random()?;
            zero.push(Additive::expand(&seed, one_hot.len()));
            one.push(Additive::complement(&one_hot, &seed));
        }
        let bundles = deal(&lanes)?;
        for ((party, votes), provision) in parties.iter().zip([zero, one]).zip(bundles) {
            party.send(Brought { votes, provision }).map_err(|_| ReleaseError::Stopped)?;
        }
    }
    Ok(())
}

/// The gate multiplies no weights.
struct NoWeights;

impl WeightMasks for NoWeights {
    fn mask(&self, _: usize, _: usize) -> &[u64] {
        &[]
    }
}

impl WeightOpenings for NoWeights {
    fn opening(&self, _: usize, _: usize) -> Option<&[u64]> {
        None
    }
}

fn deal(lanes: &[Vec<Demand>]) -> Result<[Provision; 2], ReleaseError> {
    let seeds = [Seed::random()?, Seed::random()?];
    let [to_zero, to_one] = corrections(lanes, &seeds[0], &seeds[1], &NoWeights);
    let lay_out = |party, seed, words| -> Result<Provision, StockError> {
        Ok(Provision::lay_out(Tape::new(party, seed, words), lanes, &NoWeights)?.swap_remove(0))
    };
    Ok([lay_out(Party::Zero, &seeds[0], to_zero)?, lay_out(Party::One, &seeds[1], to_one)?])
}

type Shares = (Vec<Vec<u64>>, Meter);

/// One party: its shares of the answers of all batches.
fn party(
    seat: Party,
    stream: TcpStream,
    batches: Receiver<Brought>,
    gate: ReleaseGate,
    mut source: PartyNoise,
) -> Result<Shares, ReleaseError> {
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut link = Socket(runtime.block_on(async { tokio::net::TcpStream::from_std(stream) })?);
    let (mut shares, mut meter) = (Vec::new(), Meter::default());
    for (session, Brought { votes, provision }) in batches.into_iter().enumerate() {
        let noise = draw(&mut source, gate)?;
        let mut counts = Additive::zeros(gate.vote.classes * BATCH);
        votes.iter().for_each(|votes| counts.add(votes));
        let mut computation = Computation::new(link, seat, session as u64);
        let lane = |lane: Lane| -> Pin<Box<dyn Future<Output = Result<Vec<u64>, StockError>> + Send + '_>> {
            let mut context = Context::new(seat, lane, provision);
            let (counts, noise) = (&counts, &noise);
            Box::pin(async move { release(&mut context, counts, noise, gate).await })
        };
        shares.push(runtime.block_on(computation.run(vec![lane]))?.swap_remove(0));
        meter = computation.meter();
        link = computation.into_link();
    }
    Ok((shares, meter))
}

/// This party's noise for a batch, as a daemon lays it out.
fn draw(source: &mut PartyNoise, gate: ReleaseGate) -> Result<Vec<u64>, DrawError> {
    let mut noise = vec![0; gate.noise_words()];
    for query in 0..BATCH {
        let values = source.draw(gate.vote.classes)?.into_values();
        for (word, value) in noise.iter_mut().skip(query).step_by(BATCH).zip(values.iter()) {
            *word = *value as u64;
        }
    }
    Ok(noise)
}

/// Frames with their length before them.
struct Socket(tokio::net::TcpStream);

impl Link for Socket {
    async fn exchange(&mut self, frame: Vec<u8>, reply_bytes_max: usize) -> Result<Vec<u8>, LinkError> {
        let (mut reader, mut writer) = self.0.split();
        let send = async {
            writer.write_all(&(frame.len() as u64).to_le_bytes()).await?;
            writer.write_all(&frame).await
        };
        let receive = async {
            let length = reader.read_u64_le().await? as usize;
            if length > reply_bytes_max {
                return Err(std::io::Error::from(std::io::ErrorKind::InvalidData));
            }
            let mut reply = vec![0; length];
            reader.read_exact(&mut reply).await?;
            Ok(reply)
        };
        let both = tokio::try_join!(send, receive);
        both.map(|((), reply)| reply).map_err(|error| LinkError::Transport(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Module;

    /// Five owners: all agree on even rows, no three on odd ones.
    fn ensemble() -> Ensemble {
        let vote =
            |owner: u8, row: u8| if row.is_multiple_of(2) { row / 2 % 4 } else { (row + owner / 2) % 4 };
        let votes = (0..5).map(|owner| (0..210).map(|row| vote(owner, row)).collect()).collect();
        Ensemble { name: "small".into(), classes: 4, votes, labels: vec![0; 210] }
    }

    #[test]
    fn exact_votes_give_the_majority() {
        let ensemble = ensemble();
        for gadget in [Gadget::Digits, Gadget::Nibbles, Gadget::Keys] {
            let none = PartyNoise::own(&Mechanism::Exact).unwrap();
            let released = release_votes(&ensemble, 210, &Mechanism::Exact, gadget, none).unwrap();
            let due = |row| Some(usize::from(ensemble.majority(row)));
            assert_eq!(released.answers, (0..210).map(due).collect::<Vec<_>>(), "{gadget:?}");
        }
    }

    #[test]
    fn a_threshold_with_little_noise_withholds_what_too_few_agree_on() {
        let ensemble = ensemble();
        // So little noise that none is drawn but once in 10^20 draws.
        let little = || "1/100".parse().unwrap();
        let mechanism = Mechanism::ConfidentGaussian {
            sigma_squared: little(),
            threshold: 4,
            threshold_sigma_squared: little(),
        };
        let noise = PartyNoise::own(&mechanism).unwrap();
        let released = release_votes(&ensemble, 205, &mechanism, Gadget::Digits, noise).unwrap();
        let due = |row: usize| row.is_multiple_of(2).then(|| usize::from(ensemble.majority(row)));
        assert_eq!(released.answers, (0..205).map(due).collect::<Vec<_>>());
        assert!(released.meter.rounds > 0 && released.meter.bytes > 0);
    }
    #[test]
    fn shares_of_the_modules_noise_cancel_but_for_one_draw() {
        let ensemble = ensemble();
        // Each share alone is uniform, and would drown every vote; the draw behind both is nothing.
        let mechanism = Mechanism::Gaussian { sigma_squared: "1/100".parse().unwrap() };
        let mut module = Module::start().unwrap();
        let due: Vec<_> = (0..210).map(|row| Some(usize::from(ensemble.majority(row)))).collect();
        for gadget in [Gadget::Digits, Gadget::Nibbles, Gadget::Keys] {
            let noise = module.noise(&mechanism, 4, draws(210)).unwrap();
            let released = release_votes(&ensemble, 210, &mechanism, gadget, noise).unwrap();
            assert_eq!(released.answers, due, "{gadget:?}");
        }
        // Shares of two draws do not meet.
        let [zero, _] = module.noise(&mechanism, 4, draws(210)).unwrap();
        let [_, one] = module.noise(&mechanism, 4, draws(210)).unwrap();
        let released = release_votes(&ensemble, 210, &mechanism, Gadget::Digits, [zero, one]).unwrap();
        assert_ne!(released.answers, due);
        // A party that has no share left says so.
        let noise = module.noise(&mechanism, 4, 100).unwrap();
        let short = release_votes(&ensemble, 210, &mechanism, Gadget::Digits, noise);
        assert!(matches!(short, Err(ReleaseError::Noise(DrawError::Empty))), "{short:?}");
    }
}
