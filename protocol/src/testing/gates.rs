//! One lane of gates in both parties' hands, with correlations dealt for it.

use super::pair::{MemoryLink, Transcript, pair, run_now};
use crate::algebra::prg::{Prg, Seed};
use crate::context::{Computation, ComputationError, Context, Lane, Meter};
use crate::offline::dealer::{self, WeightMasks};
use crate::party::Party;
use crate::share::Additive;
use crate::stock::{Demand, Provision, StockError, Tape, WeightOpenings};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

/// The future of a line of gates.
pub type Gate<'a, T> = Pin<Box<dyn Future<Output = Result<T, StockError>> + Send + 'a>>;

/// What both parties end with, Zero first.
#[derive(Debug)]
pub struct Outcome<T> {
    /// Results, or why there are none.
    pub results: [Result<T, ComputationError<StockError>>; 2],
    /// Rounds and bytes of party Zero.
    pub meter: Meter,
    /// What each party sent.
    pub sent: [Transcript; 2],
}

/// Both parties' provisions for one line of gates.
#[derive(Debug)]
pub struct Dealt {
    /// Zero's and One's.
    pub provisions: [Provision; 2],
    seed: Seed,
}

struct Layers(Vec<Vec<u64>>);

impl WeightMasks for Layers {
    fn mask(&self, _: usize, layer: usize) -> &[u64] {
        &self.0[layer]
    }
}

impl WeightOpenings for Layers {
    fn opening(&self, _: usize, layer: usize) -> Option<&[u64]> {
        self.0.get(layer).map(Vec::as_slice)
    }
}

impl Dealt {
    /// Deals for one lane. `weights` are those of the lane's linear layers; `seed` fixes all randomness.
    ///
    /// # Errors
    /// The weights do not fit the demands.
    pub fn new(demands: &[Demand], weights: &[Vec<u64>], seed: u64) -> Result<Self, StockError> {
        let seed = Seed::from_bytes(u128::from(seed).to_le_bytes());
        let mut prg = Prg::new(&seed.derive("masks", 0));
        let masks = Layers(weights.iter().map(|layer| prg.words(layer.len())).collect());
        let open = |(weight, mask): (&u64, &u64)| weight.wrapping_sub(*mask);
        let open = |(weights, mask): (&Vec<u64>, &Vec<u64>)| weights.iter().zip(mask).map(open).collect();
        let openings = Layers(weights.iter().zip(&masks.0).map(open).collect());
        let lanes = [demands.to_vec()];
        let [zero, one] = ["zero", "one"].map(|name| seed.derive(name, 0));
        let [to_zero, to_one] = dealer::corrections(&lanes, &zero, &one, &masks);
        let lay_out =
            |tape| Provision::lay_out(tape, &lanes, &openings).map(|mut lanes| lanes.swap_remove(0));
        let provisions =
            [lay_out(Tape::new(Party::Zero, &zero, to_zero))?, lay_out(Tape::new(Party::One, &one, to_one))?];
        Ok(Self { provisions, seed })
    }

    /// Shares `values` and runs `gate` for both parties.
    pub fn run<'a, T: Send>(
        self,
        values: &[u64],
        gate: impl Fn(Context, Additive) -> Gate<'a, T> + Sync,
    ) -> Outcome<T> {
        let seed = self.seed.derive("values", 0);
        let shares = [Additive::expand(&seed, values.len()), Additive::complement(values, &seed)];
        let stock = Mutex::new(self.provisions.map(Some));
        let gate = &gate;
        let ends = pair(|mut computation: Computation<MemoryLink>| {
            let party = computation.party();
            let index = usize::from(party == Party::One);
            let taken = stock.lock().unwrap_or_else(PoisonError::into_inner)[index].take();
            let (share, taken) = (shares[index].clone(), taken.unwrap_or_default());
            let lane = move |lane: Lane| gate(Context::new(party, lane, taken), share);
            let result = run_now(computation.run(vec![lane]));
            let meter = computation.meter();
            (result.map(|mut lanes| lanes.swap_remove(0)), meter, computation.into_link().transcript())
        });
        let [(zero, meter, sent_zero), (one, _, sent_one)] = ends;
        Outcome { results: [zero, one], meter, sent: [sent_zero, sent_one] }
    }
}
