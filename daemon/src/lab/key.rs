//! A hospital's secret: the numbers of its encoder.

use super::fault::LabError;
use super::file::{Entry, Notes, note, open, private, write_new};
use super::images::Images;
use super::shape::EncoderShape;
use crate::training::{Encoder, EncoderParts, Linear, Norm};
use consilium_protocol::algebra::prg::{Prg, Seed};
use std::path::Path;
use zeroize::Zeroizing;

const KIND: &str = "key";
/// Words that are drawn at once.
const CHUNK: usize = 4096;

/// An encoder as drawn, never trained.
pub struct EncoderKey {
    shape: EncoderShape,
    pub(super) parts: EncoderParts,
}

impl std::fmt::Debug for EncoderKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EncoderKey({})", self.shape)
    }
}

impl EncoderKey {
    /// Draws all numbers as PyTorch does before training: weights and biases uniform up to one over the root of the
    /// inputs, positions normal, normalisations with factor 1, sum 0, mean 0 and variance 1. Equal seeds give equal
    /// keys.
    ///
    /// # Errors
    /// Sizes that make no encoder.
    pub fn draw(shape: EncoderShape, seed: &Seed) -> Result<Self, LabError> {
        let shape = shape.check()?;
        let mut draw = Draw(Prg::new(seed));
        let width = shape.width;
        let norm = || Norm {
            weight: vec![1.0; width],
            bias: vec![0.0; width],
            mean: vec![0.0; width],
            variance: vec![1.0; width],
        };
        let patch = draw.linear(shape.patch_values(), width);
        let mixes = (0..shape.private_depth).map(|_| (draw.linear(width, width), norm())).collect();
        let position = draw.normal(shape.values());
        let out = draw.linear(width, width);
        Ok(Self { shape, parts: EncoderParts { patch, mixes, position, out } })
    }

    /// Numbers of an encoder from elsewhere.
    ///
    /// # Errors
    /// [`LabError::Shape`] where a length does not go with the sizes, a number is not finite, or a variance is negative.
    pub fn from_parts(shape: EncoderShape, parts: EncoderParts) -> Result<Self, LabError> {
        let shape = shape.check()?;
        let width = shape.width;
        let whole = |linear: &Linear, inputs: usize| {
            linear.weight.len() == inputs * width && linear.bias.len() == width
        };
        let norms = |norm: &Norm| {
            [&norm.weight, &norm.bias, &norm.mean, &norm.variance].iter().all(|part| part.len() == width)
        };
        let mixes = parts.mixes.iter().all(|(linear, norm)| whole(linear, width) && norms(norm));
        let fits = whole(&parts.patch, shape.patch_values())
            && parts.mixes.len() == shape.private_depth
            && mixes
            && parts.position.len() == shape.values()
            && whole(&parts.out, width);
        let variances = parts.mixes.iter().flat_map(|(_, norm)| &norm.variance);
        if !fits || variances.into_iter().any(|variance| *variance < 0.0) || !finite(&parts) {
            let problem = "its numbers are too few, too many, not finite, or a negative variance".to_owned();
            return Err(LabError::Shape { problem });
        }
        Ok(Self { shape, parts })
    }

    /// Its sizes, which are no secret.
    pub fn shape(&self) -> EncoderShape {
        self.shape
    }

    /// Its numbers, which are the secret.
    pub fn parts(&self) -> &EncoderParts {
        &self.parts
    }

    /// Takes means and variances that the channels have over these images as the running ones, which make encodings
    /// independent of each other.
    ///
    /// # Errors
    /// Images of another size.
    pub fn calibrate(&mut self, images: &Images) -> Result<(), LabError> {
        images.fit(self.shape)?;
        let mut encoder = Encoder::new(&self.parts)?;
        encoder.calibrate(&images.patches(self.shape, 0..images.count()))?;
        self.parts = encoder.parts()?;
        Ok(())
    }
}

fn finite(parts: &EncoderParts) -> bool {
    let of = |linear: &Linear| linear.weight.iter().chain(&linear.bias).all(|value| value.is_finite());
    let norm = |norm: &Norm| {
        [&norm.weight, &norm.bias, &norm.mean, &norm.variance]
            .into_iter()
            .flatten()
            .all(|value| value.is_finite())
    };
    of(&parts.patch)
        && parts.mixes.iter().all(|(linear, levels)| of(linear) && norm(levels))
        && parts.position.iter().all(|value| value.is_finite())
        && of(&parts.out)
}

/// Random numbers from a stream.
struct Draw(Prg);

impl Draw {
    /// From 0 to below 1, in steps of 2^-53.
    fn units(&mut self, count: usize) -> Zeroizing<Vec<f64>> {
        let mut units = Zeroizing::new(Vec::with_capacity(count));
        let mut words = Zeroizing::new(vec![0u64; CHUNK]);
        while units.len() < count {
            let wanted = CHUNK.min(count - units.len());
            self.0.fill_words(&mut words[..wanted]);
            units.extend(words[..wanted].iter().map(|word| (word >> 11) as f64 / (1u64 << 53) as f64));
        }
        units
    }

    fn uniform(&mut self, count: usize, bound: f64) -> Vec<f32> {
        self.units(count).iter().map(|unit| ((2.0 * unit - 1.0) * bound) as f32).collect()
    }

    fn linear(&mut self, inputs: usize, outputs: usize) -> Linear {
        let bound = 1.0 / (inputs as f64).sqrt();
        Linear { weight: self.uniform(inputs * outputs, bound), bias: self.uniform(outputs, bound) }
    }

    /// Standard normal numbers, by the transform of Box and Muller.
    fn normal(&mut self, count: usize) -> Vec<f32> {
        let units = self.units(2 * count);
        let (pairs, _) = units.as_chunks::<2>();
        let normal = |[one, other]: &[f64; 2]| {
            (-2.0 * (1.0 - one).ln()).sqrt() * (std::f64::consts::TAU * other).cos()
        };
        pairs.iter().map(|pair| normal(pair) as f32).collect()
    }
}

/// Writes a key that only its owner can read. An existing file stays.
///
/// # Errors
/// [`LabError::Exists`], or the disk's.
pub fn write_key(path: &Path, key: &EncoderKey) -> Result<(), LabError> {
    let EncoderShape { patch, width, .. } = key.shape;
    let EncoderParts { patch: first, mixes, position, out } = &key.parts;
    let mut entries = vec![
        Entry::floats("patch.weight", &[width, 1, patch, patch], &first.weight),
        Entry::floats("patch.bias", &[width], &first.bias),
        Entry::floats("position", &[key.shape.positions(), width], position),
        Entry::floats("out.weight", &[width, width], &out.weight),
        Entry::floats("out.bias", &[width], &out.bias),
    ];
    for (at, (linear, norm)) in mixes.iter().enumerate() {
        entries.push(Entry::floats(format!("mix.{at}.weight"), &[width, width, 1, 1], &linear.weight));
        entries.push(Entry::floats(format!("mix.{at}.bias"), &[width], &linear.bias));
        for (name, values) in
            norm_names(at).into_iter().zip([&norm.weight, &norm.bias, &norm.mean, &norm.variance])
        {
            entries.push(Entry::floats(name, &[width], values));
        }
    }
    let notes = Notes::from([("shape".to_owned(), note(&key.shape))]);
    write_new(path, KIND, notes, &entries)
}

fn norm_names(at: usize) -> [String; 4] {
    ["weight", "bias", "running_mean", "running_var"].map(|part| format!("norm.{at}.{part}"))
}

/// Reads a key. One that others may read is refused.
///
/// # Errors
/// [`VaultError::Exposed`](crate::vault::VaultError::Exposed), or what is wrong with the file.
pub fn read_key(path: &Path) -> Result<EncoderKey, LabError> {
    private(path)?;
    let opened = open(path, KIND)?;
    let shape: EncoderShape = opened.parsed("shape")?;
    let EncoderShape { patch, width, private_depth, .. } = shape.check()?;
    let linear = |name: &str, dimensions: &[usize]| -> Result<Linear, LabError> {
        let weight = opened.floats(&format!("{name}.weight"), dimensions)?;
        Ok(Linear { weight, bias: opened.floats(&format!("{name}.bias"), &[width])? })
    };
    let mut mixes = Vec::with_capacity(private_depth);
    for at in 0..private_depth {
        let [weight, bias, mean, variance] = norm_names(at);
        let part = |name: String| opened.floats(&name, &[width]);
        let norm =
            Norm { weight: part(weight)?, bias: part(bias)?, mean: part(mean)?, variance: part(variance)? };
        mixes.push((linear(&format!("mix.{at}"), &[width, width, 1, 1])?, norm));
    }
    let parts = EncoderParts {
        patch: linear("patch", &[width, 1, patch, patch])?,
        mixes,
        position: opened.floats("position", &[shape.positions(), width])?,
        out: linear("out", &[width, width])?,
    };
    EncoderKey::from_parts(shape, parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::VaultError;
    use std::os::unix::fs::PermissionsExt;

    const SHAPE: EncoderShape = EncoderShape { side: 8, patch: 2, width: 32, private_depth: 2 };

    fn key(byte: u8) -> EncoderKey {
        EncoderKey::draw(SHAPE, &Seed::from_bytes([byte; 16])).unwrap()
    }

    fn moments(values: &[f32]) -> (f64, f64) {
        let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len() as f64;
        let square = |value: &f32| (f64::from(*value) - mean).powi(2);
        (mean, values.iter().map(square).sum::<f64>() / values.len() as f64)
    }

    #[test]
    fn numbers_are_spread_as_pytorch_spreads_them() {
        let shape = EncoderShape { width: 256, ..SHAPE };
        let parts = EncoderKey::draw(shape, &Seed::from_bytes([1; 16])).unwrap().parts.clone();
        for (linear, inputs) in [(&parts.patch, 4.0f64), (&parts.mixes[1].0, 256.0), (&parts.out, 256.0)] {
            let bound = 1.0 / inputs.sqrt();
            let (mean, variance) = moments(&linear.weight);
            let tolerance = 6.0 * bound / (linear.weight.len() as f64).sqrt();
            assert!(mean.abs() < tolerance, "{mean}");
            assert!((variance / (bound * bound / 3.0) - 1.0).abs() < 0.1, "{variance}");
            assert!(linear.weight.iter().chain(&linear.bias).all(|value| f64::from(value.abs()) <= bound));
        }
        let (mean, variance) = moments(&parts.position);
        assert!(mean.abs() < 0.1 && (variance - 1.0).abs() < 0.1, "{mean} {variance}");
        assert!(parts.position.iter().any(|value| value.abs() > 2.5));
    }

    #[test]
    fn a_key_comes_back_and_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write_key(&path, &key(1)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let back = read_key(&path).unwrap();
        assert!(back.shape == SHAPE && back.parts == key(1).parts);
        assert!(back.parts != key(2).parts, "another seed gives another key");
        assert!(matches!(write_key(&path, &key(2)), Err(LabError::Exists { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(read_key(&path), Err(LabError::Vault(VaultError::Exposed { .. }))));
        assert_eq!(format!("{:?}", key(1)), "EncoderKey(8x8 by 2x2, width 32, depth 5)");
    }

    #[test]
    fn damage_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write_key(&path, &key(1)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read_key(&path).unwrap_err()
        };
        let mut changed = whole.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert!(matches!(read(&changed), LabError::Tampered { .. }));
        for cut in [0, 7, 100, whole.len() - 1] {
            assert!(matches!(read(&whole[..cut]), LabError::File { .. }), "{cut}");
        }
        let replaced = |from: &str, to: &str| {
            let text = whole.iter().map(|byte| char::from(*byte)).collect::<String>().replacen(from, to, 1);
            text.chars().map(|letter| letter as u8).collect::<Vec<u8>>()
        };
        assert!(matches!(
            read(&replaced("\"version\":\"1\"", "\"version\":\"2\"")),
            LabError::Version { .. }
        ));
        assert!(matches!(read(&replaced("\"kind\":\"key\"", "\"kind\":\"kex\"")), LabError::File { .. }));
        assert!(matches!(read(&replaced("\\\"width\\\":32", "\\\"width\\\":31")), LabError::Tampered { .. }));
    }

    #[test]
    fn foreign_numbers_are_checked() {
        let with = |change: fn(&mut EncoderParts)| {
            let mut parts = key(1).parts.clone();
            change(&mut parts);
            EncoderKey::from_parts(SHAPE, parts)
        };
        assert!(with(|_| ()).is_ok());
        for change in [
            (|parts| parts.patch.weight.push(0.0)) as fn(&mut EncoderParts),
            |parts| parts.mixes.truncate(1),
            |parts| parts.mixes[0].1.variance[0] = -1.0,
            |parts| parts.position[0] = f32::NAN,
            |parts| parts.out.bias.clear(),
        ] {
            assert!(matches!(with(change), Err(LabError::Shape { .. })));
        }
    }
}
