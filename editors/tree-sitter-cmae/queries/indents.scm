; Neovim's names, and Helix's beside them.
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
] @indent.begin @indent

["}" "]" ")"] @indent.branch @indent.end @outdent
