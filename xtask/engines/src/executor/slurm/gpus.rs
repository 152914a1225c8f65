//! Which GPUs a job was given.

use std::env;

use anyhow::{Context as _, Result, bail};

/// Set in a job of Slurm that was given GPUs.
const SLURM_GPUS: &str = "SLURM_JOB_GPUS";

/// Where Slurm says which GPUs these are, as `nvidia-smi` counts in the job.
const VISIBLE_GPUS: &str = "CUDA_VISIBLE_DEVICES";

/// The GPUs with these numbers, counted from the first that this job of Slurm was given; as they are
/// outside of one.
///
/// # Errors
/// When the job was given fewer.
pub fn allotted_gpus(wanted: &[u32]) -> Result<Vec<u32>> {
    match env::var_os(SLURM_GPUS) {
        None => Ok(wanted.to_vec()),
        Some(_) => allotted(wanted, &env::var(VISIBLE_GPUS).unwrap_or_default()),
    }
}

/// The GPUs of a job: a plan counts from the first that the job was given.
fn allotted(wanted: &[u32], visible: &str) -> Result<Vec<u32>> {
    let given: Vec<&str> = visible.split(',').filter(|device| !device.is_empty()).collect();
    let device = |index: &u32| {
        let Some(device) = given.get(*index as usize) else {
            bail!(
                "the job has {} GPUs and `gpus` in [engine] names device {index}: raise `gres` in \
                 [executor]",
                given.len()
            );
        };
        device
            .parse()
            .with_context(|| format!("{VISIBLE_GPUS} names `{device}`, which is no index"))
    };
    wanted.iter().map(device).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_counts_the_gpus_of_its_job() {
        assert_eq!(allotted(&[0, 1], "2,3").expect("they are there"), [2, 3]);
        assert_eq!(allotted(&[1], "0,1").expect("it is there"), [1]);
        assert_eq!(allotted(&[], "").expect("none is wanted"), [0_u32; 0]);
        let error = allotted(&[1], "5").expect_err("it has one").to_string();
        assert!(
            error.contains("the job has 1 GPUs and `gpus` in [engine] names device 1"),
            "{error}"
        );
        assert!(allotted(&[0], "MIG-1").is_err());
    }
}
