//! A small transformer that classifies sets of tokens, in whatever order they come.
//!
//! One layer as in DeepViT: a token for the class joins the others; heads of attention, whose maps are mixed by a learned
//! matrix and normalised; a network of two products; both around a normalisation, with what went in added. A front of
//! its own, a product with ReLU and a vector for each position, is what stands in an encoder's place where the tokens
//! are patches of plain images.

use super::{Examples, Progress, TrainError, library};
use candle_core::{D, Device, Result, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, ops::softmax};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use std::collections::BTreeMap;

const NORM_EPSILON: f64 = 1e-5;
/// Rows that are evaluated at once.
const SCORE_BATCH: usize = 128;

/// Sizes and training of a transformer.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct TokenRecipe {
    /// Tokens of a row.
    pub tokens: usize,
    /// Classes.
    pub classes: usize,
    /// Numbers of a token inside.
    pub dim: usize,
    /// Heads of attention; a divisor of `dim`.
    pub heads: usize,
    /// Numbers between the two products.
    pub hidden: usize,
    /// Channels of a front of its own, or none.
    pub front: Option<usize>,
    /// Passes over the rows.
    pub epochs: usize,
    /// Rows of a step, of each class as many.
    pub batch: usize,
    /// Learning rate of Adam at first; it falls to zero in a line.
    pub learning_rate: f64,
    /// Weight decay.
    pub weight_decay: f64,
}

/// Name, dimensions and numbers of a part of a transformer.
pub type NamedWeights = (&'static str, [usize; 2], Vec<f32>);

/// A trained transformer.
#[derive(Clone)]
pub struct TokenClassifier {
    recipe: TokenRecipe,
    weights: BTreeMap<&'static str, Tensor>,
}

impl std::fmt::Debug for TokenClassifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenClassifier({:?})", self.recipe)
    }
}

/// Trains on rows of tokens, one behind the other. Equal arguments give equal weights.
///
/// # Errors
/// Rows or labels that do not go with the recipe, or outputs that ran away.
pub fn train_tokens(
    data: &Examples,
    recipe: &TokenRecipe,
    seed: u64,
    progress: Progress<'_>,
) -> std::result::Result<TokenClassifier, TrainError> {
    let features = data.features() / recipe.tokens.max(1);
    if features * recipe.tokens != data.features() || features == 0 {
        return Err(TrainError::Features { expected: features * recipe.tokens, found: data.features() });
    }
    if let Some(&label) = data.labels().iter().find(|label| usize::from(**label) >= recipe.classes) {
        return Err(TrainError::Label { label, classes: recipe.classes });
    }
    let trained = learn(data, recipe, features, seed, progress).map_err(library("training a transformer"))?;
    let finite = trained.weights.values().map(|tensor| tensor.sqr()?.sum_all()?.to_scalar::<f32>());
    let finite = finite.collect::<Result<Vec<f32>>>().map_err(library("reading a transformer"))?;
    if finite.iter().all(|sum| sum.is_finite()) { Ok(trained) } else { Err(TrainError::Overflow) }
}

fn learn(
    data: &Examples,
    recipe: &TokenRecipe,
    features: usize,
    seed: u64,
    progress: Progress<'_>,
) -> Result<TokenClassifier> {
    let mut generator = StdRng::seed_from_u64(seed);
    let mut variables = Vec::new();
    let mut weights = BTreeMap::new();
    for (name, rows, columns, start) in sizes(recipe, features) {
        let values = start.values(rows, columns, &mut generator);
        let variable = Var::from_vec(values, (rows, columns), &Device::Cpu)?;
        weights.insert(name, variable.as_tensor().clone());
        variables.push(variable);
    }
    let classifier = TokenClassifier { recipe: *recipe, weights };
    let settings =
        ParamsAdamW { lr: recipe.learning_rate, weight_decay: recipe.weight_decay, ..ParamsAdamW::default() };
    let mut adam = AdamW::new(variables, settings)?;
    let mut decks = Decks::new(data, recipe.classes);
    let steps = data.rows().div_ceil(recipe.batch.max(1));
    let all = (steps * recipe.epochs).max(1) as f64;
    for epoch in 0..recipe.epochs {
        for step in 0..steps {
            adam.set_learning_rate(recipe.learning_rate * (1.0 - (epoch * steps + step) as f64 / all));
            let rows = decks.deal(recipe.batch, &mut generator);
            let labels: Vec<u32> = rows.iter().map(|row| u32::from(data.labels()[*row])).collect();
            let labels = Tensor::from_vec(labels, rows.len(), &Device::Cpu)?;
            let logits = classifier.logits(&super::batch(data, &rows)?)?;
            adam.backward_step(&candle_nn::loss::cross_entropy(&logits, &labels)?)?;
        }
        progress(epoch + 1, recipe.epochs);
    }
    let plain = classifier.weights.iter().map(|(name, tensor)| Ok((*name, tensor.copy()?.detach())));
    Ok(TokenClassifier { recipe: *recipe, weights: plain.collect::<Result<_>>()? })
}

/// Rows of each class, dealt one after the other so that all classes are dealt equally often.
struct Decks {
    rows: Vec<Vec<usize>>,
    left: Vec<Vec<usize>>,
}

impl Decks {
    fn new(data: &Examples, classes: usize) -> Self {
        let mut rows = vec![Vec::new(); classes];
        data.labels().iter().enumerate().for_each(|(row, label)| rows[usize::from(*label)].push(row));
        rows.retain(|rows| !rows.is_empty());
        Self { left: vec![Vec::new(); rows.len()], rows }
    }

    fn deal(&mut self, count: usize, generator: &mut StdRng) -> Vec<usize> {
        let classes = self.rows.len();
        let mut dealt = Vec::with_capacity(count);
        for class in (0..classes).cycle().take(count) {
            if self.left[class].is_empty() {
                self.left[class].clone_from(&self.rows[class]);
                self.left[class].shuffle(generator);
            }
            dealt.extend(self.left[class].pop());
        }
        dealt
    }
}

/// First values of a matrix.
#[derive(Clone, Copy)]
enum Start {
    /// Uniform up to one over the root of so many inputs.
    Uniform(usize),
    /// Small, for vectors that are added.
    Small,
    Zero,
    One,
    /// Ones on the diagonal and something small beside, so that heads begin apart.
    Identity,
}

impl Start {
    fn values(self, rows: usize, columns: usize, generator: &mut StdRng) -> Vec<f32> {
        let mut uniform = |bound: f32| -> Vec<f32> {
            (0..rows * columns).map(|_| (2.0 * generator.random::<f32>() - 1.0) * bound).collect()
        };
        match self {
            Self::Uniform(inputs) => uniform(1.0 / (inputs.max(1) as f32).sqrt()),
            Self::Small => uniform(0.05),
            Self::Zero => vec![0.0; rows * columns],
            Self::One => vec![1.0; rows * columns],
            Self::Identity => {
                let mut values = uniform(0.05);
                (0..rows.min(columns)).for_each(|at| values[at * columns + at] += 1.0);
                values
            }
        }
    }
}

/// Name, rows, columns and start of each matrix; products are `inputs x outputs`.
fn sizes(recipe: &TokenRecipe, features: usize) -> Vec<(&'static str, usize, usize, Start)> {
    let TokenRecipe { tokens, classes, dim, heads, hidden, front, .. } = *recipe;
    let mut sizes = Vec::new();
    let mut linear = |weight, bias, inputs, outputs| {
        sizes.push((weight, inputs, outputs, Start::Uniform(inputs)));
        sizes.push((bias, 1, outputs, Start::Zero));
    };
    if let Some(channels) = front {
        linear("front.weight", "front.bias", features, channels);
    }
    linear("enter.weight", "enter.bias", front.unwrap_or(features), dim);
    linear("query.weight", "query.bias", dim, dim);
    linear("key.weight", "key.bias", dim, dim);
    linear("value.weight", "value.bias", dim, dim);
    linear("join.weight", "join.bias", dim, dim);
    linear("first.weight", "first.bias", dim, hidden);
    linear("second.weight", "second.bias", hidden, dim);
    linear("class.weight", "class.bias", dim, classes);
    if let Some(channels) = front {
        sizes.push(("front.position", tokens, channels, Start::Small));
    }
    sizes.push(("token", 1, dim, Start::Small));
    sizes.push(("mix", heads, heads, Start::Identity));
    for (weight, bias, width) in [
        ("mix.norm.weight", "mix.norm.bias", heads),
        ("norm.0.weight", "norm.0.bias", dim),
        ("norm.1.weight", "norm.1.bias", dim),
        ("norm.2.weight", "norm.2.bias", dim),
    ] {
        sizes.push((weight, 1, width, Start::One));
        sizes.push((bias, 1, width, Start::Zero));
    }
    sizes
}

/// The names of a layer's two matrices.
type Pair = (&'static str, &'static str);

impl TokenClassifier {
    /// How it was trained.
    pub fn recipe(&self) -> &TokenRecipe {
        &self.recipe
    }

    /// Its matrices with their names, rows, columns and values; products are `inputs x outputs`.
    ///
    /// # Errors
    /// The tensor library failed.
    pub fn weights(&self) -> std::result::Result<Vec<NamedWeights>, TrainError> {
        let weights = self.weights.iter().map(|(name, tensor)| {
            let (rows, columns) = tensor.dims2()?;
            Ok((*name, [rows, columns], tensor.flatten_all()?.to_vec1()?))
        });
        weights.collect::<Result<_>>().map_err(library("reading a transformer"))
    }

    /// Share of belief in each class for each row, `rows x classes`.
    ///
    /// # Errors
    /// Rows of another length.
    pub fn beliefs(&self, data: &Examples) -> std::result::Result<Vec<f32>, TrainError> {
        let rows: Vec<usize> = (0..data.rows()).collect();
        let mut beliefs = Vec::with_capacity(rows.len() * self.recipe.classes);
        for rows in rows.chunks(SCORE_BATCH) {
            let found = super::batch(data, rows)
                .and_then(|rows| softmax(&self.logits(&rows)?, D::Minus1)?.flatten_all()?.to_vec1::<f32>());
            beliefs.extend(found.map_err(library("evaluating a batch"))?);
        }
        Ok(beliefs)
    }

    fn weight(&self, name: &'static str) -> Result<&Tensor> {
        self.weights.get(name).ok_or_else(|| candle_core::Error::msg(format!("no matrix {name}")))
    }

    fn product(&self, rows: &Tensor, (weight, bias): Pair) -> Result<Tensor> {
        rows.matmul(self.weight(weight)?)?.broadcast_add(self.weight(bias)?)
    }

    /// Mean 0 and variance 1 along the last dimension, then the learned factor and sum.
    fn norm(&self, values: &Tensor, (weight, bias): Pair) -> Result<Tensor> {
        let centred = values.broadcast_sub(&values.mean_keepdim(D::Minus1)?)?;
        let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + NORM_EPSILON)?.sqrt()?;
        let normal = centred.broadcast_div(&deviation)?;
        normal.broadcast_mul(self.weight(weight)?)?.broadcast_add(self.weight(bias)?)
    }

    /// Logits of rows of tokens, `rows x classes`.
    fn logits(&self, rows: &Tensor) -> Result<Tensor> {
        let TokenRecipe { tokens, dim, front, .. } = self.recipe;
        let count = rows.dim(0)?;
        let mut values = rows.reshape((count * tokens, rows.dim(1)? / tokens))?;
        if let Some(channels) = front {
            values = self.product(&values, ("front.weight", "front.bias"))?.relu()?;
            let placed = values.reshape((count, tokens, channels))?;
            let position = self.weight("front.position")?.unsqueeze(0)?;
            values = placed.broadcast_add(&position)?.relu()?.reshape((count * tokens, channels))?;
        }
        let entered = self.product(&values, ("enter.weight", "enter.bias"))?.reshape((count, tokens, dim))?;
        let class = self.weight("token")?.unsqueeze(0)?.broadcast_as((count, 1, dim))?;
        let with_class = Tensor::cat(&[&class.contiguous()?, &entered], 1)?;
        let flat = with_class.reshape((count * (tokens + 1), dim))?;
        let attended = self.attention(&self.norm(&flat, ("norm.0.weight", "norm.0.bias"))?, count)?;
        // Only the class token is read at the end, so the rest of the layer is for it alone.
        let class_of =
            |flat: &Tensor| flat.reshape((count, tokens + 1, dim))?.narrow(1, 0, 1)?.reshape((count, dim));
        let joined = (class_of(&flat)? + attended)?;
        let inner = self.norm(&joined, ("norm.1.weight", "norm.1.bias"))?;
        let inner = self.product(&inner, ("first.weight", "first.bias"))?.gelu_erf()?;
        let left = (joined + self.product(&inner, ("second.weight", "second.bias"))?)?;
        self.product(&self.norm(&left, ("norm.2.weight", "norm.2.bias"))?, ("class.weight", "class.bias"))
    }

    /// What the class token takes from all tokens, `count x dim`.
    fn attention(&self, flat: &Tensor, count: usize) -> Result<Tensor> {
        let TokenRecipe { tokens, dim, heads, .. } = self.recipe;
        let (all, size) = (tokens + 1, dim / heads);
        let split = |pair: Pair| -> Result<Tensor> {
            self.product(flat, pair)?.reshape((count, all, heads, size))?.transpose(1, 2)?.contiguous()
        };
        let query = split(("query.weight", "query.bias"))?.narrow(2, 0, 1)?.contiguous()?;
        let (key, value) = (split(("key.weight", "key.bias"))?, split(("value.weight", "value.bias"))?);
        let scores = (query.matmul(&key.transpose(2, 3)?.contiguous()?)? / (size as f64).sqrt())?;
        let maps = softmax(&scores, D::Minus1)?.reshape((count, heads, all))?;
        // Maps mixed between heads: `count * tokens x heads` times `heads x heads`.
        let by_token = maps.transpose(1, 2)?.contiguous()?.reshape((count * all, heads))?;
        let mixed =
            self.norm(&by_token.matmul(self.weight("mix")?)?, ("mix.norm.weight", "mix.norm.bias"))?;
        let mixed = mixed
            .reshape((count, all, heads))?
            .transpose(1, 2)?
            .contiguous()?
            .reshape((count, heads, 1, all))?;
        let taken = mixed.matmul(&value)?.reshape((count, dim))?;
        self.product(&taken, ("join.weight", "join.bias"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of four tokens of three numbers, the class in one token at any place.
    fn rows(count: usize, seed: u64) -> Examples {
        let mut generator = StdRng::seed_from_u64(seed);
        let mut labels = Vec::new();
        let mut inputs = Vec::new();
        for row in 0..count {
            // Three of four rows are of class 0.
            let label = u8::from(row % 4 == 0);
            let place = generator.random_range(0..4);
            for token in 0..4 {
                let mark = if token == place { f32::from(label) * 4.0 - 2.0 } else { 0.0 };
                inputs.extend([mark, generator.random_range(-1.0..1.0), generator.random_range(-1.0..1.0)]);
            }
            labels.push(label);
        }
        Examples::new(12, inputs, labels).unwrap()
    }

    fn recipe(front: Option<usize>) -> TokenRecipe {
        TokenRecipe {
            tokens: 4,
            classes: 2,
            dim: 16,
            heads: 4,
            hidden: 32,
            front,
            epochs: 15,
            batch: 32,
            learning_rate: 0.01,
            weight_decay: 1e-4,
        }
    }

    #[test]
    fn tokens_are_classified_in_any_order() {
        let (data, test) = (rows(400, 1), rows(200, 2));
        for front in [None, Some(8)] {
            let model = train_tokens(&data, &recipe(front), 3, &mut |_, _| ()).unwrap();
            let beliefs = model.beliefs(&test).unwrap();
            let right = beliefs
                .chunks(2)
                .zip(test.labels())
                .filter(|(row, label)| (row[1] > row[0]) == (**label == 1));
            assert!(right.count() > 180, "{front:?}");
            let turned: Vec<f32> =
                test.inputs().chunks(12).flat_map(|row| row[3..].iter().chain(&row[..3])).copied().collect();
            let turned = model.beliefs(&Examples::new(12, turned, test.labels().to_vec()).unwrap()).unwrap();
            let same = beliefs.iter().zip(&turned).all(|(left, right)| (left - right).abs() < 1e-5);
            assert_eq!(same, front.is_none(), "only a front knows positions");
        }
    }

    #[test]
    fn a_seed_fixes_the_classifier() {
        let short = TokenRecipe { epochs: 2, ..recipe(None) };
        let weights =
            |seed| train_tokens(&rows(100, 1), &short, seed, &mut |_, _| ()).unwrap().weights().unwrap();
        assert_eq!(weights(1), weights(1));
        assert_ne!(weights(1), weights(2));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let tried = |recipe| train_tokens(&rows(20, 1), &recipe, 0, &mut |_, _| ());
        assert!(matches!(tried(TokenRecipe { tokens: 5, ..recipe(None) }), Err(TrainError::Features { .. })));
        assert!(matches!(tried(TokenRecipe { classes: 1, ..recipe(None) }), Err(TrainError::Label { .. })));
    }
}
