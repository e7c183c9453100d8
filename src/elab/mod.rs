//! Elaboration: names, imports, parameters, units, overrides.
