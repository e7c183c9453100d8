; Neovim's names.
[
  (block)
  (body)
  (pipeline)
  (variant)
  (section)
  (evaluate)
  (branch)
  (train)
  (parameters)
  (use_group)
  (params)
  (arguments)
  (list)
  (record)
  (record_type)
  (group)
] @indent.begin

["}" "]" ")"] @indent.branch @indent.end
