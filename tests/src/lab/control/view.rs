//! What two parties see while they evaluate images.

use super::super::{TrialError, seed};
use crate::noise::own;
use consilium::lab::{Images, shuffled};
use consilium::task::release_shape;
use consilium::training::{Examples, Recipe, train};
use consilium_attest::NoiseSource;
use consilium_protocol::algebra::prg::Prg;
use consilium_protocol::algebra::{Fixed, stream};
use consilium_protocol::graph::{Layer, Network, Numbers, Shape};
use consilium_protocol::model::Model;
use consilium_protocol::privacy::Mechanism;
use consilium_protocol::stock::Gadget;
use consilium_protocol::testing::{Observed, TestTask};
use consilium_protocol::wire::Opening;
use rand::SeedableRng;
use rand::rngs::StdRng;

const OWNERS: usize = 5;
const TRAINED_ON: usize = 200;
const HIDDEN: u32 = 8;
const NUMBERS: Numbers = Numbers { fraction_bits: 16, value_bits: 12 };
/// Variance of the noise on each count: a label costs 1/4 in zCDP.
const VARIANCE: &str = "4";

/// Where the randomness of an evaluation comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Masks {
    /// Drawn for each image, as the product does.
    Fresh,
    /// The same for all images: the fault that is planted.
    Repeated,
}

/// What is seen of each image, as bytes, rows of one table all as long. Words have their highest byte first.
pub(super) struct Views {
    images: usize,
    pub(super) classes: usize,
    /// Share of the image of either party.
    pub(super) shares: [Vec<u8>; 2],
    /// All payloads of either party.
    pub(super) sent: [Vec<u8>; 2],
    /// Every value that both open. One of a few bits takes the highest ones of its byte.
    pub(super) opened: Vec<u8>,
    /// The same, the input itself in place of the input under its mask.
    pub(super) unmasked: Vec<u8>,
    /// The image in fixed point.
    pub(super) queries: Vec<u8>,
    /// The label of each image.
    pub(super) labels: Vec<u8>,
}

impl Views {
    /// Tables side by side, each byte from 0 to 1.
    pub(super) fn beside(&self, tables: &[&[u8]]) -> Vec<f32> {
        let row = |image: usize| {
            tables.iter().flat_map(move |table| {
                let width = table.len() / self.images;
                &table[image * width..][..width]
            })
        };
        (0..self.images).flat_map(row).map(|byte| f32::from(*byte) / 255.0).collect()
    }
}

/// Networks of some hospitals.
pub(super) struct Consortium {
    models: Vec<Model>,
    mechanism: Mechanism,
    classes: usize,
}

impl Consortium {
    /// Trains them, and gives the places of the rows that none of them has seen.
    pub(super) fn train(rows: &Examples) -> Result<(Self, Vec<usize>), TrialError> {
        let order = shuffled(rows.rows(), &seed("owners", 0));
        let (owners, others) = order.split_at((OWNERS * TRAINED_ON).min(order.len()));
        let classes = usize::from(rows.labels().iter().copied().max().unwrap_or(0)) + 1;
        let layers =
            vec![Layer::Dense { outputs: HIDDEN }, Layer::Relu, Layer::Dense { outputs: classes as u32 }];
        let network = Network::new(Shape::vector(rows.features() as u32), layers)?;
        let models = owners.chunks(TRAINED_ON).zip(0..).map(|(own, owner)| {
            let own = rows.select(own)?;
            Ok(train(&network, &own, &Recipe::table(own.rows()), owner, &mut |_, _| ())?)
        });
        let models = models.collect::<Result<_, TrialError>>()?;
        let mechanism = Mechanism::Gaussian { sigma_squared: VARIANCE.parse()? };
        Ok((Self { models, mechanism, classes }, others.to_vec()))
    }

    fn task(&self, repetition: u64) -> Result<TestTask, TrialError> {
        let session = Prg::new(&seed("session", repetition)).word();
        let release = release_shape(&self.mechanism);
        Ok(TestTask::new(&self.models, NUMBERS, 1, release, Gadget::Digits, session)?)
    }

    /// Lets two parties evaluate each image.
    pub(super) fn evaluate(
        &self,
        chosen: &Images,
        masks: Masks,
        repetition: u64,
    ) -> Result<Views, TrialError> {
        let values = chosen.side() * chosen.side();
        let mut task = self.task(repetition)?;
        let openings = task.plan().openings();
        let noise_words = task.plan().release().noise_words();
        let fixed = Fixed { fraction_bits: NUMBERS.fraction_bits };
        let mut noise = [own(&self.mechanism)?, own(&self.mechanism)?];
        // The product's sampler with a generator that can be repeated: so can what is found.
        let mut generator = StdRng::seed_from_u64(Prg::new(&seed("noise", repetition)).word());
        let mut views = Views::empty(chosen.count(), self.classes);
        for image in chosen.pixels().chunks_exact(values) {
            if masks == Masks::Repeated {
                task = self.task(repetition)?;
            }
            let query = fixed.encode_all(image, 1.0)?;
            let mut draw = |source: &mut NoiseSource| -> Result<Vec<u64>, TrialError> {
                let share = source.draw(self.classes, &mut generator)?.into_values();
                Ok(share.iter().map(|value| *value as u64).take(noise_words).collect())
            };
            let [zero, one] = &mut noise;
            let drawn = [draw(zero)?, draw(one)?];
            let (labels, _, sent) = task.ask(std::slice::from_ref(&query), [&drawn[0], &drawn[1]])?;
            // The shares of the evaluation that has just ended.
            let shares = task.input(std::slice::from_ref(&query));
            for (table, share) in views.shares.iter_mut().zip(&shares) {
                table.extend(bytes(share));
            }
            views.add(&bytes(&query), &Observed::of(&sent), &openings);
            views.labels.extend(labels.iter().take(1).map(|label| *label as u8));
        }
        Ok(views)
    }
}

impl Views {
    fn empty(images: usize, classes: usize) -> Self {
        Self {
            images,
            classes,
            shares: Default::default(),
            sent: Default::default(),
            opened: Vec::new(),
            unmasked: Vec::new(),
            queries: Vec::new(),
            labels: Vec::new(),
        }
    }

    fn add(&mut self, query: &[u8], observed: &Observed, openings: &[Vec<Opening>]) {
        for (table, payloads) in self.sent.iter_mut().zip(&observed.payloads) {
            table.extend(payloads.iter().flatten());
        }
        let opened = opened(observed, openings);
        self.queries.extend(query);
        self.unmasked.extend(query);
        // What is opened first is the input under its mask.
        self.unmasked.extend(&opened[query.len()..]);
        self.opened.extend(opened);
    }
}

/// Every value that both parties' payloads open together.
fn opened(observed: &Observed, openings: &[Vec<Opening>]) -> Vec<u8> {
    let mut opened = Vec::new();
    for (round, gates) in openings.iter().enumerate() {
        let mut at = 0;
        for gate in gates {
            let length = (gate.count * gate.width as usize).div_ceil(8);
            for _ in 0..gate.rows {
                let [zero, one] = observed
                    .payloads
                    .each_ref()
                    .map(|payloads| stream::unpack(&payloads[round][at..][..length], gate.count, gate.width));
                for (zero, one) in zero.iter().zip(&one) {
                    let sum = zero.wrapping_add(*one) << (64 - gate.width);
                    opened.extend(&sum.to_be_bytes()[..gate.width.div_ceil(8) as usize]);
                }
                at += length;
            }
        }
    }
    opened
}

fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}
