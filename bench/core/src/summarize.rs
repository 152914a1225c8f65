//! Raw samples to the figures of a trial. Deterministic: the same samples, the same bytes.
