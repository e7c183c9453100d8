//! The trainer as verification drives it: the very steps of `cmaec run`.

use super::Steps;
use crate::backend::{BackendError, Request, Results, Wanted};
use crate::tensor::{Element, InputValue};
use crate::train::Trainer;

impl<E: Element> Steps<E> for Trainer<'_, E> {
    fn tensors(&mut self) -> Result<Vec<E>, BackendError> {
        Ok(self.session.tensors()?.to_vec())
    }

    fn fill(&mut self, tensors: Vec<E>) -> Result<(), BackendError> {
        self.session.exchange(tensors).map(drop)
    }

    fn step(&mut self, inputs: &[(String, InputValue)], request: &Request) -> Result<Results<E>, String> {
        let wanted = Wanted { outputs: &request.outputs, gradients: true };
        let report = self.step_giving(inputs, wanted).map_err(|error| error.to_string())?;
        Ok(report.results)
    }
}
