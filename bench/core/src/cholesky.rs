//! Systems with a symmetric positive definite matrix, by Cholesky's decomposition.

use libm::{log, sqrt};

/// The lower triangle of a factored matrix, row by row.
pub struct Cholesky {
    rows: Vec<Vec<f64>>,
}

impl Cholesky {
    /// Factors a matrix of `n` rows. `pivot` may raise the square of a diagonal entry, or end it with `None`.
    pub fn of(
        n: usize,
        entry: impl Fn(usize, usize) -> f64,
        pivot: impl Fn(f64) -> Option<f64>,
    ) -> Option<Self> {
        let mut rows: Vec<Vec<f64>> = Vec::with_capacity(n);
        for i in 0..n {
            let mut row = Vec::with_capacity(i + 1);
            for (j, above) in rows.iter().enumerate() {
                let dot: f64 = row.iter().zip(above).map(|(a, b): (&f64, &f64)| a * b).sum();
                row.push((entry(i, j) - dot) / above[j]);
            }
            let squares: f64 = row.iter().map(|a: &f64| a * a).sum();
            row.push(sqrt(pivot(entry(i, i) - squares)?));
            rows.push(row);
        }
        Some(Self { rows })
    }

    /// Solves `L x = b`.
    pub fn forward(&self, b: &[f64]) -> Vec<f64> {
        let mut x: Vec<f64> = Vec::with_capacity(b.len());
        for (row, b) in self.rows.iter().zip(b) {
            let dot: f64 = row.iter().zip(&x).map(|(a, x)| a * x).sum();
            x.push((b - dot) / row[x.len()]);
        }
        x
    }

    /// Solves `L Lᵀ x = b`.
    pub fn solve(&self, b: &[f64]) -> Vec<f64> {
        let mut x = self.forward(b);
        for i in (0..x.len()).rev() {
            let dot: f64 = (i + 1..x.len()).map(|j| self.rows[j][i] * x[j]).sum();
            x[i] = (x[i] - dot) / self.rows[i][i];
        }
        x
    }

    pub fn half_log_determinant(&self) -> f64 {
        self.rows.iter().enumerate().map(|(i, row)| log(row[i])).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn systems_are_solved(rows in prop::collection::vec(prop::array::uniform3(-1.0..1.0f64), 3),
                              solution in prop::array::uniform3(-5.0..5.0f64)) {
            // The product with its transpose is positive definite, the identity keeps it far from
            // singular.
            let matrix: Vec<Vec<f64>> = (0..3)
                .map(|i| {
                    (0..3)
                        .map(|j| {
                            let product: f64 = rows[i].iter().zip(&rows[j]).map(|(a, b)| a * b).sum();
                            product + if i == j { 0.1 } else { 0.0 }
                        })
                        .collect()
                })
                .collect();
            let right: Vec<f64> = matrix
                .iter()
                .map(|row| row.iter().zip(&solution).map(|(a, b)| a * b).sum())
                .collect();
            let factor = Cholesky::of(matrix.len(), |i, j| matrix[i][j], Some);
            let found = factor.expect("is positive definite").solve(&right);
            for (found, expected) in found.iter().zip(&solution) {
                prop_assert!((found - expected).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn a_matrix_that_is_not_positive_ends_where_its_pivot_does() {
        let pivot = |square: f64| (square > 0.0).then_some(square);
        assert!(Cholesky::of(2, |_, _| 1.0, pivot).is_none());
    }
}
