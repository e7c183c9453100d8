; What a name stands for within a block, a function or a branch.
[(file) (block) (forward) (function) (pipeline) (branch) (comprehension)] @local.scope

(block name: (name) @local.definition.type)
(function name: (name) @local.definition.function)
(param name: (name) @local.definition.parameter)
(tensor_decl name: (name) @local.definition.var)
(binding name: (name) @local.definition.var)
(assignment name: (name) @local.definition.var)
(pipeline_param name: (name) @local.definition.var)
(for_loop name: (name) @local.definition.var)
(loop_over name: (name) @local.definition.var)

(name) @local.reference
