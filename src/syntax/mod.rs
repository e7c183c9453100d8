//! Syntax: text to AST.
