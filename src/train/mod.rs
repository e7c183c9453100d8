//! Training: the loop, optimizers, schedules, EMA, init.
