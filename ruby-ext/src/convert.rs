//! Values of the core as Ruby's, and the other way round.

use magnus::{IntoValue, Ruby, Value};
use promring::client::{SeriesValue, Value as Number};

/// A counter or gauge is a Float, a summary `[count, sum]`, a histogram its buckets' counts and then the sum.
pub fn number(ruby: &Ruby, value: Number) -> Value {
    match value {
        Number::Number(value) => value.into_value_with(ruby),
        Number::Summary { count, sum } => vec![count, sum].into_value_with(ruby),
        Number::Histogram { mut counts, sum } => {
            counts.push(sum);
            counts.into_value_with(ruby)
        }
    }
}

/// `[label values or nil for the overflow series, worker or nil, number]`.
pub fn series(ruby: &Ruby, series: SeriesValue) -> Value {
    let label_values = (!series.overflow).then_some(series.label_values);
    (label_values, series.worker, number(ruby, series.value)).into_value_with(ruby)
}

/// Label values as the core takes them.
pub fn as_strs(values: &[String]) -> Vec<&str> {
    values.iter().map(String::as_str).collect()
}
