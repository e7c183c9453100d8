; What `tree-sitter tags` and outlines list.
(block name: (name) @name) @definition.class
(function name: (name) @name) @definition.function
(pipeline name: (name) @name) @definition.module
(variant name: (name) @name) @definition.module
(branch name: (name) @name) @definition.method
(call function: (name) @name) @reference.call
