(pipeline "pipeline" @context name: (name) @name) @item
(variant "pipeline" @context name: (name) @name) @item
(section name: (section_name) @name) @item
(branch "branch" @context name: (name) @name) @item
(evaluate "evaluate" @name) @item
(train "train" @name) @item
(block "block" @context name: (name) @name) @item
(function "fn" @context name: (name) @name) @item
