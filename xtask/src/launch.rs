//! stub
use std::{path::PathBuf, sync::atomic::AtomicBool};
use bench_core::schema::{Event, LaunchPlan, Engine, Outcome};
pub struct Tools { pub bench: PathBuf, pub out_dir: PathBuf, pub state_dir: PathBuf }
pub fn run(plan: &LaunchPlan, _: &Tools, _: &AtomicBool, on: &mut dyn FnMut(Event)) -> anyhow::Result<()> {
    let Engine::Simulator { model } = &plan.engine else { anyhow::bail!("not yet") };
    match bench_core::sim::launch(model, &plan.args, plan.replicate) {
        Err(failure) => on(Event::Refused { failure }),
        Ok(server) => for t in &plan.trials {
            let mut s = bench_core::summarize::Summarizer::new(&t.load);
            let o = server.run(&t.load, &mut |x| s.push(&x), &mut |_| {});
            let m = s.finish(&o, &server.observed(), &plan.launch, None);
            on(Event::Trial { key: t.key, outcome: Box::new(Outcome::Measured(m)), samples: None });
        }
    }
    Ok(())
}
