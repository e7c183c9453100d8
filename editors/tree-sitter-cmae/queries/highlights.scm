; The names of captures are those that Neovim, Helix, Zed and Emacs know in common; a later pattern goes before an earlier one.

(name) @variable

; What is defined
(block name: (name) @type)
(pipeline name: (name) @type)
(variant name: (name) @type)
(variant base: (name) @type)
(use_pipeline (name) @module)
(use_pipeline name: (name) @type)
(use_pipeline alias: (name) @type)
(branch name: (name) @type)
(function name: (name) @function)
(param name: (name) @variable.parameter)
(argument name: (name) @variable.parameter)
(record_entry name: (name) @property)
(record_field name: (name) @property)

; What is named
(field name: (name) @property)
(dotted (name) @property)
(type_name (name) @type)
(role name: (name) @constant)
(rule_roles (name) @constant)
(use_names (name) @module)
(path (name) @module)
(path name: (name) @variable)
(call function: (name) @function)
(call function: (path name: (name) @function))
(call function: (field name: (name) @function))

; Words
["use" "as"] @keyword
["block" "fn" "forward" "pipeline" "branch" "with" "export"] @keyword
["param" "state" "update" "init" "add" "remove"] @keyword
["frozen" "role" "path" "parameters" "evaluate" "train"] @keyword
(section_name) @keyword
["for" "in" "repeat" "from" "when" "if" "else" "require"] @keyword
["and" "or" "not"] @keyword.operator

; Values
(boolean) @boolean
(none) @constant.builtin
(number) @number
(unit) @number.unit
(time_unit) @number.unit
(string) @string
(escape) @string.escape
(placeholder) @string.special

; Signs
["=" "|>" "->" "==" "!=" "<=" ">=" "<" ">" "+" "-" "*" "/" "%" ".."] @operator
(rest_dims) @operator
(optional) @operator
["(" ")" "[" "]" "{" "}"] @punctuation.bracket
["," ":" "::" "."] @punctuation.delimiter

(comment) @comment
(doc_comment) @comment.documentation
