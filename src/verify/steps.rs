//! The trainer as verification drives it: the very steps of `cmaec run`.

use super::Steps;
use crate::backend::{Backend, Request, Results};
use crate::tensor::{Element, InputValue};
use crate::train::Trainer;

/// A trainer with the backend that it runs on.
pub struct TrainerSteps<'t, 'p, E> {
    pub trainer: &'t mut Trainer<'p, E>,
    pub backend: &'t mut dyn Backend<E>,
}

impl<E: Element> Steps<E> for TrainerSteps<'_, '_, E> {
    fn arena(&mut self) -> &mut [E] {
        &mut self.trainer.arena
    }

    fn step(&mut self, inputs: &[(String, InputValue)], request: &Request) -> Result<Results<E>, String> {
        let report = self.trainer.step(self.backend, inputs, &request.outputs).map_err(|error| error.to_string())?;
        Ok(report.results)
    }
}
