//! The noise of one release as its mechanism asks for it: the same code in a compute party and in the module.

use consilium_protocol::privacy::{Mechanism, Sampler};
use rand::CryptoRng;
use zeroize::Zeroizing;

/// The tables of a mechanism: for the counts, and for the largest count where it has noise of its own.
#[derive(Debug)]
pub(crate) struct Noise {
    sampler: Sampler,
    threshold: Option<Sampler>,
}

impl Noise {
    /// Prepares the tables.
    pub(crate) fn new(mechanism: &Mechanism) -> Self {
        let threshold = mechanism.threshold_noise().map(|noise| Sampler::new(&noise));
        Self { sampler: Sampler::new(mechanism), threshold }
    }

    /// The mechanism whose noise this draws.
    pub(crate) const fn mechanism(&self) -> &Mechanism {
        self.sampler.mechanism()
    }

    /// Fresh noise for each of `classes` classes, and for the largest count where there is a threshold.
    pub(crate) fn draw(
        &self,
        classes: usize,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> (Zeroizing<Vec<i64>>, Option<Zeroizing<i64>>) {
        let values = self.sampler.draw_many(classes, rng);
        (values, self.threshold.as_ref().map(|sampler| Zeroizing::new(sampler.draw(rng))))
    }
}
